"""`resnet-lab-runs`: what is listed, and what is removed and what is not."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from resnet_lab import list_runs
from resnet_lab.checks import UserError
from resnet_lab.report.results import read_results
from resnet_lab.runs.directory import Run
from resnet_lab.runs.plan import add_to_plan, drop_from_plan, planned
from resnet_lab.runs.start import prepare
from resnet_lab.text import columns, duration, size

ERRORS = {"train_error": 1.25, "train_error_clean": 1.0, "val_error": 2.5, "test_error": 2.5}
Composed = Callable[..., dict[str, Any]]
Main = Callable[..., str]


@pytest.fixture
def study(tmp_path: Path, composed: Composed) -> dict[str, Run]:
    """Runs of one experiment: completed, failed, interrupted, set aside and missing."""
    runs = {}
    for lr, status in ((0.1, "completed"), (0.2, "failed"), (0.3, "interrupted")):
        run = prepare(composed(*TINY, f"optimizer.lr={lr}", "experiment_name=study"))
        assert run is not None
        run.update(
            status=status, started="2026-01-01T00:00:00+00:00", ended=f"2026-01-0{lr * 10:.0f}T00:00:00+00:00"
        )
        runs[status] = run
    runs["completed"].update(**ERRORS)
    runs["failed"].update(error="no luck")
    old = prepare(composed(*TINY, "seed=1", "experiment_name=study"))
    assert old is not None
    runs["set-aside"] = Run(old.set_aside())
    runs["missing"] = Run(tmp_path / "study/plain-8-00000000/seed0")
    planned_ones = [run.directory for status, run in runs.items() if status != "set-aside"]
    add_to_plan(tmp_path / "study", list(map(str, planned_ones)))
    return runs


def facts(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    """What `--json` says, by status."""
    list_runs.main([*arguments, "--json"])
    return {run["status"]: run for run in json.loads(capsys.readouterr().out)}


def test_runs_are_listed_with_what_was_swept(
    study: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    list_runs.main([str(tmp_path)])
    told = capsys.readouterr().out
    head, *rows = told.splitlines()
    assert head.split() == ["run", "status", "train", "%", "test", "%", "age", "size", "folder"]
    names = [row.split("  ")[0] for row in rows]
    # newest first, and what has no time last
    assert names[:3] == [f"plain-8, lr {lr}, seed 0" for lr in (0.3, 0.2, 0.1)]
    assert "1.25" in rows[2]
    assert all(str(run.directory) in told for run in study.values())
    assert f"{study['failed'].directory} failed: no luck" in told
    assert re.search(r"\n5 runs, \S+ \S?B\n$", told)


def test_programs_get_json_and_choose_by_status(
    study: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = facts(capsys, str(tmp_path))
    assert {status: Path(run["directory"]) for status, run in found.items()} == {
        status: run.directory for status, run in study.items()
    }
    assert found["completed"]["errors"] == {"train_error": 1.25, "val_error": 2.5, "test_error": 2.5}
    assert found["completed"]["swept"] == {"optimizer.lr": 0.1}
    assert found["completed"]["bytes"] > 0
    assert set(facts(capsys, str(tmp_path), "--status", "failed,missing")) == {"failed", "missing"}


def test_a_damaged_record_is_listed_as_unreadable(
    study: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study["failed"].record_path.write_text('{"status": "failed", "config": {"model": 7}}')
    study["set-aside"].record_path.write_text("{")
    assert set(facts(capsys, str(tmp_path))) == {"completed", "interrupted", "missing", "unreadable", "set-aside"}


def test_a_benchmark_has_several_speeds_and_is_no_training_run(
    tmp_path: Path, composed: Composed, capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepare(composed("job=throughput", *TINY))
    assert run is not None
    run.update(status="completed", images_per_second={"fit": [1.0]}, ratios={})
    assert set(facts(capsys, str(tmp_path))) == {"completed"}
    with pytest.raises(UserError, match=r"have only just begun|there are no training runs"):
        read_results([run.directory])


def test_nothing_is_removed_until_somebody_says_yes(
    study: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    with pytest.raises(SystemExit, match="nothing was removed; add --yes"):
        list_runs.main([str(tmp_path), "--status", "failed", "--remove"])
    assert f"to be removed: {study['failed'].directory} (" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    with pytest.raises(SystemExit):
        list_runs.main([str(tmp_path), "--remove"])
    assert study["failed"].directory.exists()
    monkeypatch.setattr("builtins.input", lambda question: "y")
    list_runs.main([str(tmp_path), "--status", "failed", "--remove"])
    assert not study["failed"].directory.exists()


def test_what_is_removed_is_gone_from_the_plan_and_all_else_stays(
    study: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    list_runs.main([str(tmp_path), "--status", "failed,missing,set-aside", "--remove", "--yes"])
    assert "removed 3 of 3" in capsys.readouterr().out
    assert set(facts(capsys, str(tmp_path))) == {"completed", "interrupted"}
    kept = {study[status].directory for status in ("completed", "interrupted")}
    assert {tmp_path / "study" / name for name in planned(tmp_path / "study")} == kept
    assert {path.name for path in (tmp_path / "study").iterdir()} == {
        *(directory.parent.name for directory in kept),
        "plan.json",
        ".plan.lock",
    }


def test_a_run_in_use_is_kept(
    study: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resnet_lab.runs.directory.PATIENCE", 0.0)
    run = study["interrupted"]
    with run.ownership(), pytest.raises(SystemExit, match="1 of 2 were kept"):
        list_runs.main([str(tmp_path), "--status", "interrupted,failed", "--remove", "--yes"])
    assert f"kept: {run.directory} is in use by process" in capsys.readouterr().err
    assert run.checkpoint_path.parent.parent.exists()
    assert run.record()
    assert not study["failed"].directory.exists()
    assert f"{run.directory.parent.name}/seed0" in planned(tmp_path / "study")


def test_nothing_beyond_a_link_and_nothing_that_is_no_run_is_removed(
    study: dict[str, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = tmp_path / "elsewhere/net/seed0"
    elsewhere.parent.parent.mkdir()
    study["completed"].directory.parent.rename(elsewhere.parent)
    study["failed"].directory.joinpath("link").symlink_to(elsewhere)
    (tmp_path / "study/net").symlink_to(elsewhere.parent)
    (tmp_path / "study/mine/seed0").mkdir(parents=True)
    add_to_plan(tmp_path / "study", [str(tmp_path / "study/net/seed0"), str(tmp_path / "study/mine/seed0")])
    with pytest.raises(SystemExit):
        list_runs.main([str(tmp_path / "study"), "--remove", "--yes"])
    told = capsys.readouterr().err
    assert "net/seed0 is reached through a symbolic link" in told
    assert "mine/seed0 has no record.json" in told
    assert not study["failed"].directory.exists()
    assert (elsewhere / "record.json").exists()
    assert (tmp_path / "study/mine/seed0").is_dir()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere is not a folder; give one that has runs in it"),
        (["--status", "broken"], "'broken' is not a status; there are running, completed"),
        (["--yes"], "--yes goes with --remove"),
        (["--json", "--remove"], "not allowed with argument"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        list_runs.main(arguments)
    assert said in f"{capsys.readouterr().err}{ended.value.code}"


def test_sizes_durations_and_columns_are_for_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 210_038, 99_960_000, 2.5e12)] == [
        *("0 B", "999 B", "1.0 kB", "210 kB", "100 MB", "2.5 TB"),
    ]
    assert [duration(s) for s in (0.4, 59, 61, 3700, 172_800)] == ["0 s", "59 s", "1 min", "1 h 1 min", "2 d"]
    assert columns([("a", "1"), ("bc", "20")], right=(1,)) == ["a    1", "bc  20"]


def test_a_plan_of_which_every_run_was_removed_is_gone(tmp_path: Path) -> None:
    runs = [str(tmp_path / "study" / name / "seed0") for name in ("a", "b")]
    add_to_plan(tmp_path / "study", runs)
    drop_from_plan(tmp_path / "study", Path(runs[0]))
    assert planned(tmp_path / "study") == {"b/seed0"}
    drop_from_plan(tmp_path / "study", Path(runs[1]))
    assert not (tmp_path / "study/plan.json").exists()
    assert planned(tmp_path / "study") == set()
