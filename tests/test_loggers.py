"""Loggers that a run has beside its metrics.csv, through the command line."""

import csv
import importlib.util
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY, frozen
from runs import only_run, start, wait_for_rows, wait_until_free

Call = Callable[..., subprocess.CompletedProcess[str]]


def values(path: Path) -> list[tuple[str, ...]]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return [(row["step"], row["tag"], row["value"]) for row in rows if not row["tag"].startswith("perf")]


def test_a_csv_of_all_values_is_resumed_exactly(tmp_path: Path) -> None:
    words = ("logger=csv", "callbacks=gradient_norms", "callbacks.gradient_norms.every=1", "iterations=150")
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    assert start(tmp_path / "whole", *words).wait() == 0
    process = start(tmp_path / "stopped", *words)
    run = wait_for_rows(tmp_path / "stopped", 4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until_free(run)
    assert len(run.metrics()) < 50
    assert start(tmp_path / "stopped", *words).wait() == 0
    whole = only_run(tmp_path / "whole")
    found = values(run.directory / "values.csv")
    assert found == values(whole.directory / "values.csv")
    norms = [step for step, tag, _ in found if tag == "gradient_norm/stem"]
    assert norms == [str(step) for step in range(1, 151)]
    assert {"train/error", "val/error", "test/error", "lr"} <= {tag for _, tag, _ in found}
    assert not list(run.directory.glob("events*"))


def test_where_a_run_logs_is_no_part_of_which_run_it_is(resnet_lab: Call, tmp_path: Path) -> None:
    names = {frozen(tmp_path, *TINY, *words)["run_name"] for words in ([], ["logger=none"], ["logger=[csv]"])}
    assert len(names) == 1
    ended = resnet_lab("train", *TINY, "logger=none")
    assert ended.returncode == 0, ended.stderr
    run = only_run(tmp_path)
    assert len(run.metrics()) == 2
    assert not list(run.directory.glob("events*"))


def test_weights_and_biases_offline_and_mlflow(resnet_lab: Call, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    pytest.importorskip("mlflow")
    ended = resnet_lab("train", *TINY, "logger=[wandb,mlflow]")
    assert ended.returncode == 0, ended.stderr
    run = only_run(tmp_path)
    name = (run.directory / "wandb/id").read_text().strip()
    assert len(list(run.directory.glob(f"wandb/offline-run-*-{name}/*.wandb"))) == 1
    known = (run.directory / "mlflow_run_id").read_text().strip()
    (errors,) = tmp_path.glob(f"outputs/mlruns/*/{known}/metrics/val/error")
    assert [line.split()[2] for line in errors.read_text().splitlines()] == ["3", "6"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["logger=wand"], "logger=wand does not exist; did you mean logger=wandb?"),
        (["+logger.x._target_=pytorch_lightning.loggers.CometLogger"], "must be a class of resnet_lab.loggers"),
        (["+logger.x=true"], "logger must be blocks with a _target_, each under a name"),
        (["+logger.tensorboard.name=x"], "logger.tensorboard.name is not a setting of TensorBoard"),
        (["+logger.tensorboard.iteration=3"], "logger.tensorboard.iteration is set by the lab"),
    ],
)
def test_refused(resnet_lab: Call, tmp_path: Path, words: list[str], told: str) -> None:
    ended = resnet_lab("train", *TINY, *words)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_what_is_not_installed_is_said(resnet_lab: Call, tmp_path: Path, name: str) -> None:
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    ended = resnet_lab("train", *TINY, f"logger=[tensorboard,{name}]")
    assert f"logger={name} needs {name}: pip install 'resnet-lab[{name}]'" in ended.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_logger_of_ones_own(resnet_lab: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_logs.py").write_text(
        "from pytorch_lightning.loggers import Logger\n\n"
        "class Lines(Logger):\n"
        "    name, version = 'lines', ''\n\n"
        "    def __init__(self, directory):\n"
        "        super().__init__()\n"
        "        self.path = directory / 'lines.txt'\n\n"
        "    def log_hyperparams(self, params, *rest, **more):\n"
        "        self.path.write_text(f\"{params['net']}\\n\")\n\n"
        "    def log_metrics(self, metrics, step=None):\n"
        "        with self.path.open('a') as file:\n"
        "            file.write(f'{step} {len(metrics)}\\n')\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    words = ("--trust-package", "my_logs", *TINY, "+logger.lines._target_=my_logs.Lines")
    ended = resnet_lab("train", *words)
    assert ended.returncode == 0, ended.stderr
    run = only_run(tmp_path)
    assert (run.directory / "lines.txt").read_text().splitlines() == ["plain-8", "3 8", "6 8", "6 3"]
    assert len(list(run.directory.glob("events*"))) == 1
