"""Jobs of a sweep are forked from a process that has imported torch, and end with whoever started them."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from runs import curve, only_run, start, wait_for_rows

from resnet_lab.runs.directory import Run
from resnet_lab.runs.nursery import Forked
from resnet_lab.sweeps.job_process import Starter, can_be_forked

Composed = Callable[..., dict[str, Any]]

SWEEP = ("hydra.mode=MULTIRUN", "seed=0,1,2")


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def command_line(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ")


def owner(run: Run) -> int:
    """The number of the process that owns the run's directory."""
    return int(str(run.owner()).split()[1])


@pytest.mark.slow
def test_a_forked_job_computes_what_a_fresh_process_does(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    sweep = start(tmp_path, *SWEEP, "experiment_name=forked", fresh=True)
    assert start(tmp_path / "alone", "seed=2", fresh=True).wait() == 0
    assert sweep.wait() == 0
    alone = only_run(tmp_path / "alone")
    forked = Run(next(tmp_path.glob("outputs/forked/*/seed2")))
    assert curve(forked) == curve(alone)
    same = ("threads", "kernels", "interop_threads", "test_error", "train_loss")
    assert {name: forked.record()[name] for name in same} == {name: alone.record()[name] for name in same}


@pytest.mark.parametrize("whom", ["launcher", "nursery"])
def test_a_job_ends_with_its_nursery_and_that_with_the_launcher(tmp_path: Path, whom: str) -> None:
    launcher = start(tmp_path, *SWEEP, "iterations=1000000", fresh=True)
    run = wait_for_rows(tmp_path, 1)
    nursery = parent(owner(run))
    assert "resnet_lab.runs.nursery" in command_line(nursery)
    assert parent(nursery) == launcher.pid
    os.kill(launcher.pid if whom == "launcher" else nursery, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while run.owner():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert run.status() == "interrupted"
    launcher.terminate()
    launcher.wait()


def test_only_training_on_a_cpu_is_forked(composed: Composed) -> None:
    assert can_be_forked(composed(*TINY))
    assert not can_be_forked(composed(*TINY, "job=throughput"))
    assert not can_be_forked(composed(*TINY, "trainer=gpu"))


def test_a_single_job_needs_no_nursery(composed: Composed) -> None:
    assert Starter([composed(*TINY)], {}).nursery is None


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: None, 0),
        (lambda: os._exit(75), 75),
        (lambda: [][0], 1),
        (lambda: exec("raise SystemExit(3)"), 3),
        (lambda: exec("raise SystemExit('no')"), 1),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -9),
    ],
)
def test_a_forked_process_ends_as_a_fresh_one(call: Callable[[], object], code: int) -> None:
    process = Forked(call)
    while process.poll() is None:
        time.sleep(0.01)
    assert process.returncode == code
