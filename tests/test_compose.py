"""What a config may say, and what becomes of one that says something else."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resnet_lab.checks import UserError
from resnet_lab.compose import CONF, prepare
from resnet_lab.record import Run
from resnet_lab.run import execute

Composed = Callable[..., dict[str, Any]]
EXPERIMENTS = sorted(path.stem for path in Path(CONF).glob("experiment/*.yaml"))


@pytest.mark.parametrize("module", ["train", "report"])
def test_what_only_composes_or_reports_imports_no_torch(module: str) -> None:
    code = f"import sys, resnet_lab.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment_composes_and_can_be_shrunk(composed: Composed, name: str) -> None:
    assert composed(f"experiment={name}")["experiment_name"] == name
    small = composed(f"experiment=[{name},smoke]")
    assert small["experiment_name"] == "smoke"
    assert small["iterations"] <= 30
    assert small["data"]["_target_"].endswith("Synthetic")


def test_the_papers_recipe_on_cifar10(composed: Composed) -> None:
    config = composed("experiment=cifar10_degradation")
    assert config["iterations"] == 64000
    assert config["schedule"]["milestones"] == [32000, 48000]
    sgd = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0001}
    assert {key: config["optimizer"][key] for key in sgd} == sgd
    data = {"batch_size": 128, "crop_padding": 4, "flip": True, "mean": "per_pixel", "holdout": 0}
    assert {key: config["data"][key] for key in data} == data
    warm = composed("experiment=cifar10_resnet110")["schedule"]
    assert (warm["warmup_lr"], warm["until_error"], warm["milestones"]) == (0.01, 80.0, [32000, 48000])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+typo=1", "typo is not a key of the config"),
        ("+optimzer.lr=1", "optimzer is not a key of the config; did you mean optimizer?"),
        ("seed=-1", "seed must be an integer .* got -1"),
        ("seed=first", "seed must be an integer .* got 'first'"),
        ("+runtime.thread=1", "runtime.thread is not a setting"),
        ("runtime.threads=0", "runtime.threads must be .* got 0"),
        ("runtime.compile=maybe", "runtime.compile must be true or false, got 'maybe'"),
        ("experiment_name=../../x", "experiment_name must be letters, .* got '../../x'"),
        ("run_name=a/b", "run_name must be letters, .* got 'a/b'"),
        ("optimizer.lr=${nothing}", "nothing"),
    ],
)
def test_refused_before_anything_starts(composed: Composed, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        composed(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.depth=18", r"model: depth must be 6n\+2 .* got 18"),
        ("model.shortcut=D", "model: shortcut must be one of none, A, B, C; got 'D'"),
        ("+model.dpth=20", "model.dpth is not a setting of resnet_cifar; did you mean model.depth?"),
        ("+optimizer.lrr=1", "optimizer.lrr is not a setting of SGD; did you mean optimizer.lr?"),
        ("optimizer.lr=-1", "optimizer: Invalid learning rate: -1"),
        ("optimizer.lr=fast", "optimizer: "),
        ("optimizer._target_=torch.optim.SDG", "optimizer._target_: there is no 'torch.optim.SDG'"),
        ("optimizer._target_=os.system", "optimizer._target_ must be under .* got 'os.system'"),
        (
            "+model.evil={_target_:builtins.print}",
            "model.evil._target_ must be under .* got 'builtins.print'",
        ),
        ("+data.bach_size=1", "data.bach_size is not a setting of Synthetic; did you mean data.batch_size?"),
        ("data.batch_size=0", "data: batch_size must be a positive integer, got 0"),
        ("data.holdout=40", "holdout must be below the 40 training images, got 40"),
        ("schedule.gamma=2", r"schedule: gamma must be in \(0, 1\], got 2"),
        ("schedule.milestones=[9,3]", r"schedule: milestones must be positive .* got \[9, 3\]"),
        ("iterations=0", "iterations must be a positive integer, got 0"),
        ("trainer.accelerator=abacus", "trainer: .*abacus"),
        ("trainer.check_val_every_n_epoch=5", "trainer.check_val_every_n_epoch must be 1, or null"),
        (
            "+trainer.max_epoch=5",
            "trainer.max_epoch is not a setting of Trainer; did you mean trainer.max_epochs?",
        ),
    ],
)
def test_refused_before_training(
    tiny: Callable[..., tuple[Run, dict[str, Any]]],
    override: str,
    message: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, config = tiny(override)
    assert execute(run, config) == 1
    record = run.record()
    assert record["status"] == "failed"
    assert "traceback" not in record
    assert re.search(message, record["error"]), record["error"]
    assert record["error"] in caplog.text
    assert not run.metrics_path.exists()


def test_the_test_error_cannot_steer_the_training(tiny: Callable[..., tuple[Run, dict[str, Any]]]) -> None:
    run, config = tiny("schedule=plateau", "schedule.monitor=val/error")
    assert execute(run, config) == 1
    assert "needs data.holdout" in run.record()["error"]


def test_another_config_never_takes_over_a_directory(composed: Composed) -> None:
    first = composed("run_name=mine")
    run = prepare(first)
    assert run is not None
    run.update(status="interrupted", config=first)
    with pytest.raises(UserError, match="holds a run of another config"):
        prepare(composed("run_name=mine", "model.depth=32"))
    assert prepare(composed("run_name=mine", "runtime.threads=1")) is not None


def test_hydras_own_refusals_have_no_traceback(resnet_lab: Callable[..., Any], tmp_path: Path) -> None:
    for override, named in (
        ("optimizer.lrr=1", "lrr"),
        ("model=resnet_cfar", "model/resnet_cfar"),
        ("+typo=1", "typo"),
    ):
        ended = resnet_lab("train", override)
        assert ended.returncode != 0
        assert named in ended.stderr
        assert "Traceback" not in ended.stderr
    assert list(tmp_path.iterdir()) == []
