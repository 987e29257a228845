"""What the tests do with runs: start them, watch them, compare them."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from conftest import TINY
from pytorch_lightning import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from resnet_lab.runs.directory import Run
from resnet_lab.runs.nursery import Requested
from resnet_lab.runs.sealed import sealed
from resnet_lab.runs.worker import execute
from resnet_lab.training.callbacks import SaveLast, Stop
from resnet_lab.training.checkpoint import read_checkpoint


def only_run(folder: Path) -> Run:
    (record,) = folder.glob("outputs/*/*/seed*/record.json")
    return Run(record.parent)


def curve(run: Run) -> list[dict[str, str]]:
    """The rows of the curve, without the speed."""
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in run.metrics()]


def weights(run: Run) -> dict[str, torch.Tensor]:
    checkpoint = read_checkpoint(run.checkpoint_path)
    assert checkpoint is not None
    state: dict[str, torch.Tensor] = checkpoint["state_dict"]
    return state


def points(run: Run) -> dict[str, list[tuple[int, float]]]:
    """TensorBoard's scalars, without the speed."""
    shown = EventAccumulator(str(run.directory), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in shown.Tags()["scalars"] if not tag.startswith("perf")]
    return {tag: [(point.step, point.value) for point in shown.Scalars(tag)] for tag in tags}


def start(
    folder: Path,
    *overrides: str,
    environ: dict[str, str] | None = None,
    fresh: bool = False,
    session: bool = False,
) -> subprocess.Popen[bytes] | Requested:
    """`resnet-lab` on a tiny run; `fresh` where the start of Python itself is what is tested."""
    module, words = "resnet_lab.train", [*TINY, *overrides]
    environ = os.environ | {"OMP_NUM_THREADS": "1"} | (environ or {})
    with open(os.devnull, "w") as nothing:
        if not fresh:
            how = {"session": session, "stdout": 1, "stderr": nothing.fileno()}
            return forked.begin(folder, module, *words, environ=environ, **how)
        command = [sys.executable, "-m", module, *words]
        how = {"cwd": folder, "env": environ, "start_new_session": session}
        forked.STARTED.append(process := subprocess.Popen(command, stderr=nothing, **how))
        return process


class Killed(BaseException):
    """As sudden as kill -9 gets in one process."""


def end_at(iteration: int, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next run end there."""
    callback = SaveLast if how == "killed after a save" else Stop  # which comes before
    watched = callback.on_train_batch_end

    def on_train_batch_end(self: Any, trainer: Trainer, *rest: Any) -> None:
        now = trainer.global_step == iteration
        if now and how == "asked to stop":
            os.kill(os.getpid(), signal.SIGTERM)
        if now and how == "killed":
            raise Killed
        watched(self, trainer, *rest)
        if now and how == "killed after a save":
            raise Killed

    monkeypatch.setattr(callback, "on_train_batch_end", on_train_batch_end)


def execute_interrupted(
    run: Run, config: dict[str, Any], ends: Iterable[int], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Execute a run that ends at each of these iterations, and then to its end.

    With a checkpoint after each iteration where there can be one.
    """
    config["runtime"]["save_every"] = 600.0 if how == "asked to stop" else 0.0
    for iteration in ends:
        with monkeypatch.context() as patch:
            end_at(iteration, how, patch)
            if how == "asked to stop":
                assert execute(run, config) == 75
            else:
                with pytest.raises(Killed):
                    execute(run, config)
    assert execute(run, config) == 0


def wait_for_rows(folder: Path, count: int, runs: str = "outputs/*/*/seed*") -> Run:
    """The first of the runs that has so many evaluations behind it."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for found in folder.glob(f"{runs}/metrics.csv"):
            if len(Run(found.parent).metrics()) >= count:
                return Run(found.parent)
        time.sleep(0.02)
    raise AssertionError("no curve appeared")


def wait_until_free(*runs: Run) -> None:
    """The processes of one that was killed end a moment later."""
    deadline = time.monotonic() + 30
    while any(run.owner() for run in runs):
        assert time.monotonic() < deadline, "its processes did not end"
        time.sleep(0.05)


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write the checkpoint with other content and a checksum that holds."""
    checkpoint = read_checkpoint(path)
    assert checkpoint is not None
    change(checkpoint)
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    path.write_bytes(b"".join(sealed(buffer.getbuffer())))


def stopped_and_whole(folder: Path, how: int, *words: str) -> tuple[Run, Run]:
    """A run that was sent the signal in the middle and resumed, and the same run left alone.

    Their curves and weights are equal, which is asserted here.
    """
    (folder / "whole").mkdir()
    (folder / "stopped").mkdir()
    assert start(folder / "whole", *words).wait() == 0
    process = start(folder / "stopped", *words)
    run = wait_for_rows(folder / "stopped", 4)
    process.send_signal(how)
    process.wait()
    wait_until_free(run)
    assert len(run.metrics()) < 50
    assert start(folder / "stopped", *words).wait() == 0
    whole = only_run(folder / "whole")
    assert curve(run) == curve(whole)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(run)[name]), name
    return run, whole
