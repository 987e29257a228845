"""The line that makes a stored run again."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

from resnet_lab import list_runs
from resnet_lab.checks import UserError
from resnet_lab.config.again import command_line, composed, value
from resnet_lab.runs.identity import run_differences
from resnet_lab.runs.start import prepare

Composed = Callable[..., dict[str, Any]]


def made_by(line: str) -> dict[str, Any]:
    program, *words = shlex.split(line)
    assert program == "resnet-lab"
    return composed(words)[1]


def test_the_line_is_what_was_typed_quoted_for_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["experiment=[cifar10_shortcuts,smoke]", "model.depth=8", f"output_root='{tmp_path}/my runs'"]
    run = prepare(composed(words)[1], words)
    assert run is not None
    list_runs.main(["--command", str(run.directory)])
    line = capsys.readouterr().out.rstrip("\n")
    # an experiment sweeps by itself
    assert shlex.split(line) == ["resnet-lab", *words, "hydra.mode=RUN"]
    assert made_by(line) == run.record()["config"]


@pytest.mark.parametrize(
    "overrides",
    [
        [*TINY, "seed=3", "experiment_name=mine", "run_name=net"],
        [
            "model=cifar_resnet",
            "data=cifar10",
            "optimizer=adamw",
            "schedule=cosine",
            "+trainer.benchmark=true",
        ],
        ["trainer=ddp_cpu", "data.root='my images'", "optimizer._target_=torch.optim.Adam", "~optimizer.momentum"],
    ],
)
def test_of_a_record_without_a_command_it_is_the_differences(composed: Composed, overrides: list[str]) -> None:
    config = composed(*overrides)
    again = made_by(command_line({"config": config}))
    assert run_differences(config, again) == []
    assert again["run_dir"] == config["run_dir"]


@pytest.mark.parametrize("typed", [True, False])
def test_the_line_of_a_run_that_a_sweep_analyzed_is_a_single_run(composed: Composed, typed: bool) -> None:
    words = ["experiment=[signals,smoke]", "model.depth=20"]
    config = composed(*words)
    assert config["analyses"] == ["signals"]
    line = command_line({"config": config} | ({"command": words} if typed else {}))
    again = made_by(line)
    assert run_differences(config, again) == []
    assert again["analyses"] == []


def test_a_command_that_gives_another_run_is_not_taken(composed: Composed) -> None:
    config = composed(*TINY)
    assert run_differences(config, made_by(command_line({"config": config, "command": ["model.depth=14"]}))) == []


@pytest.mark.parametrize(
    "word",
    [
        *("hydra.launcher.x=1", "+hydra.callbacks.x=1", "--trust-package=os", "--config-name=x", "a\x1b[2J=1"),
        # Hydra accepts these, so nothing but the check of the words is in their way
        *("hydra.launcher.n_jobs=3", "hydra.verbose=true"),
    ],
)
def test_a_record_gives_no_word_that_is_more_than_a_value(composed: Composed, word: str) -> None:
    line = command_line({"config": composed(*TINY), "command": [*TINY, word]})
    assert word not in shlex.split(line)


def test_what_cannot_be_composed_is_told(composed: Composed, tmp_path: Path) -> None:
    config = composed(*TINY)
    config["model"]["_target_"] = "my_nets.tiny"
    with pytest.raises(UserError, match=r"no command line for this run; .*--trust-package my_nets"):
        command_line({"config": config})
    with pytest.raises(SystemExit, match="holds no run"):
        list_runs.main(["--command", str(tmp_path)])


def test_info_takes_a_run_alone(composed: Composed, main: Callable[..., str], tmp_path: Path) -> None:
    run = prepare(composed(*TINY))
    assert run is not None
    said = main("info", f"run={run.directory}", "model.depth=20")
    assert "model.depth=20 does not go with run=" in said
    assert "holds no run; did you mean" in main("info", f"run={tmp_path}")
    assert "run must be a folder, got 7" in main("info", "run=7")


def test_values_are_written_so_that_hydra_reads_them() -> None:
    values = [1, 1e-05, True, None, "a.b/c", "1e-3", "null", "it's", [1, "x y"], {"a": [0.5]}]
    written = ["1", "1e-05", "true", "null", "a.b/c", "'1e-3'", "'null'", "'it\\'s'", "[1,'x y']", "{a:[0.5]}"]
    assert [value(of) for of in values] == written
