"""A search learns from held-out errors alone, resumes where it was stopped, and tells what it found."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from conftest import TINY
from hydra.core.override_parser.overrides_parser import OverridesParser
from runs import start

from resnet_lab.checks import UserError
from resnet_lab.runs.directory import Run
from resnet_lab.sweeps.search import SearchSweeper, distribution

optuna = pytest.importorskip("optuna")
Call = Callable[..., Any]

SEARCH = ("-m", "hydra/sweeper=search", "hydra.sweeper.n_trials=4", "hydra.sweeper.batch=2", "data.holdout=8")
SPACE = ("optimizer.lr=tag(log,interval(0.001,1.0))", "model.depth=8,14")


def trials(folder: Path) -> list[tuple[dict[str, Any], float | None]]:
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{folder / 'search.db'}")
    return [(trial.params, trial.value) for trial in study.trials]


def test_a_search_finds_the_run_with_the_lowest_held_out_error(resnet_lab: Call, tmp_path: Path) -> None:
    ended = resnet_lab("train", *TINY, *SEARCH, *SPACE, "experiment_name=a")
    assert ended.returncode == 0, ended.stderr
    runs = [Run(path.parent) for path in tmp_path.glob("outputs/a/*/seed0/record.json")]
    errors = sorted(value for _, value in trials(tmp_path / "outputs/a"))
    assert len(errors) == 4
    assert set(errors) == {run.record()["val_error"] for run in runs}
    assert f"lowest held-out error, {errors[0]:.2f} %, of 4 runs: " in ended.stdout
    again = resnet_lab("train", *TINY, *SEARCH, *SPACE, "experiment_name=a")
    assert again.returncode == 0
    assert len(trials(tmp_path / "outputs/a")) == 4
    other = resnet_lab("train", *TINY, *SEARCH, *SPACE, "experiment_name=a", "optimizer.momentum=0.5")
    assert "has a search with other settings" in other.stderr


@pytest.mark.slow
def test_a_search_that_was_stopped_ends_as_one_that_was_not(resnet_lab: Call, tmp_path: Path) -> None:
    words = (*SEARCH, *SPACE, "iterations=60")  # which last long enough to be stopped
    assert resnet_lab("train", *TINY, *words, "experiment_name=whole").returncode == 0
    process = start(tmp_path, *words, "experiment_name=stopped")
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("outputs/stopped/*/seed0/record.json"))) < 3:
        assert time.monotonic() < deadline, "the second two runs did not begin"
        time.sleep(0.01)
    process.terminate()
    assert process.wait() == 75
    assert resnet_lab("train", *TINY, *words, "experiment_name=stopped").returncode == 0
    assert trials(tmp_path / "outputs/stopped") == trials(tmp_path / "outputs/whole")


@pytest.mark.slow
def test_a_run_that_fails_is_no_end_of_the_search(resnet_lab: Call, tmp_path: Path) -> None:
    ended = resnet_lab("train", *TINY, *SEARCH, "optimizer.lr=1e30,0.1")
    assert ended.returncode == 1
    values = [value for _, value in trials(tmp_path / "outputs/default")]
    assert len(values) == 4
    assert 0 < values.count(None) < 4


def test_the_command_line_goes_before_the_space_of_a_file(tmp_path: Path) -> None:
    searcher = SearchSweeper({"model.depth": "56,20", "optimizer.lr": 0.1}, n_trials=2, batch=2, seed=0)
    searcher.folder = tmp_path
    seen: list[Any] = []

    def check(jobs: list[list[str]]) -> list[Any]:
        seen.extend([searcher.fixed, *jobs])
        raise UserError("enough")

    searcher.jobs = Mock(check=check)
    with pytest.raises(UserError, match="enough"):
        searcher.sweep(["model.depth=20", "optimizer.lr=interval(0.01,0.1)"])
    assert seen == [["model.depth=20"], ["model.depth=20", "optimizer.lr=0.01"]]


def test_what_was_stopped_beside_a_failure_is_resumed(tmp_path: Path) -> None:
    configs, trials = [], []
    for number, status in enumerate(("failed", "interrupted")):
        run = Run(tmp_path / status)
        run.directory.mkdir()
        run.update(status=status)
        configs.append({"run_dir": str(run.directory)})
        trials.append(SimpleNamespace(number=number, params={}))
    told: list[int] = []
    study = SimpleNamespace(tell=lambda number, **_: told.append(number))
    searcher = SearchSweeper(None, n_trials=2, batch=2, seed=0)
    searcher.fixed = []
    launch = Mock(side_effect=SystemExit(1))
    searcher.jobs = Mock(check=lambda jobs: configs, launch=launch, stopping=True)
    with pytest.raises(SystemExit):
        searcher._run(study, trials)
    assert told == [0]  # the other remains to be run
    searcher.jobs.stopping = False
    assert searcher._run(study, trials)
    assert told == [0, 0, 1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("data.holdout=0",), "needs data.holdout"),
        (("optimizer.lr=0.1",), "nothing to search over"),
        (("optimizer.lr=interval(1,0.1)",), "an interval must rise"),
        (("optimizer.lr=tag(log,interval(0,0.1))",), "must start above 0"),
        (("hydra.sweeper.n_trials=0",), "n_trials"),
    ],
)
def test_an_impossible_search_is_refused_before_anything_is_written(
    resnet_lab: Call, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    space = () if "optimizer.lr" in words[0] else SPACE
    ended = resnet_lab("train", *TINY, *SEARCH, *space, *words)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("given", "kind", "low", "high", "log"),
    [
        ("model.depth=int(interval(8,20))", "IntDistribution", 8, 20, False),
        ("optimizer.lr=interval(0.1,1)", "FloatDistribution", 0.1, 1.0, False),
        ("optimizer.lr=tag(log,interval(0.1,1))", "FloatDistribution", 0.1, 1.0, True),
    ],
)
def test_an_interval_is_searched_as_written(given: str, kind: str, low: float, high: float, log: bool) -> None:
    (override,) = OverridesParser.create().parse_overrides([given])
    found = distribution(override)
    assert (type(found).__name__, found.low, found.high, found.log) == (kind, low, high, log)
