"""Requests to stop, at any moment and as many as there are, end a run with 75 and its state saved."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from runs import curve, only_run, start, wait_for_rows

from resnet_lab.runs.directory import Run
from resnet_lab.runs.signals import SIGNALS
from resnet_lab.runs.supervisor import Processes, conclude
from resnet_lab.sweeps.pool import LocalJob, PoolLauncher
from resnet_lab.sweeps.table import JobsTable

Tiny = Callable[..., tuple[Run, dict[str, Any]]]
Composed = Callable[..., dict[str, Any]]

# first those that no other test sends: the later ones find some processes gone
ALL = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT, signal.SIGTERM]
EVERY_50 = ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=50")
ENDLESS = ("iterations=1000000", *EVERY_50)
TWO = ("trainer=ddp_cpu",)
SWEEP = ("hydra.mode=MULTIRUN", "seed=0,1")
LONG_EVALUATION = ("data.test_images=100000", "data.eval_batch_size=1", "trainer.val_check_interval=1.0")


def slow(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


def wait_until_handled(process: int) -> None:
    """Until a process has handlers of our own, signals end it as they end any other; nohup has one ignored."""
    deadline = time.monotonic() + 60
    while not all(answered(process) >> (number - 1) & 1 for number in SIGNALS):
        assert time.monotonic() < deadline, "it did not begin to answer signals"
        time.sleep(0.01)


def answered(process: int) -> int:
    """The signals that the process has handlers for or ignores, each one a bit."""
    status = Path(f"/proc/{process}/status").read_text()
    ignored, caught = (int(status.partition(word)[2].split()[0], 16) for word in ("SigIgn:", "SigCgt:"))
    return ignored | caught


def ask(process: subprocess.Popen[bytes], group: bool) -> float:
    """Send a burst of all signals; return the seconds until the end."""
    began = time.monotonic()
    for number in 2 * ALL:
        if process.poll() is None:
            (os.killpg if group else os.kill)(process.pid, number)
            time.sleep(0.03)
    assert process.wait(60) == 75
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("settings", "group"),
    [
        (ENDLESS, True),
        (("data.num_workers=2", *SWEEP, *ENDLESS), True),
        slow(ENDLESS, False),
        slow((*TWO, "data.num_workers=2", *ENDLESS), True),
        slow((*TWO, *ENDLESS), False),
        slow((*SWEEP, *ENDLESS), False),
    ],
)
def test_a_burst_ends_a_training_with_its_state_saved(
    tmp_path: Path, settings: tuple[str, ...], group: bool
) -> None:
    process = start(tmp_path, *settings, environ={"TMPDIR": str(tmp_path)}, session=True)
    wait_for_rows(tmp_path, 1)
    assert ask(process, group) < 20 + 10 * ("hydra.mode=MULTIRUN" in settings)  # a sweep draws its report, too
    for path in tmp_path.glob("outputs/*/*/seed*/record.json"):
        record = Run(path.parent).record()
        assert record["status"] == "interrupted"
        assert "again to resume" in record["error"] or record["error"] == "stopped"
    assert list(tmp_path.glob("outputs/*/*/seed*/checkpoints/last.ckpt"))
    assert {path.name for path in tmp_path.iterdir()} <= {"outputs", ".resnet-lab"}


@pytest.mark.parametrize(
    ("seconds", "settings", "fresh"),
    [
        (0.5, (), True),
        slow(1.0, (), True),
        slow(2.0, (), True),
        slow(3.0, SWEEP, True),
        slow(4.0, TWO, True),
        slow(6.0, TWO, True),
        slow(2.0, LONG_EVALUATION, False),
        slow(4.0, LONG_EVALUATION, False),
        slow(4.0, (*TWO, *LONG_EVALUATION), False),
    ],
)
def test_a_burst_ends_whatever_comes_before_or_between(
    tmp_path: Path, seconds: float, settings: tuple[str, ...], fresh: bool
) -> None:
    process = start(tmp_path, "iterations=100000", *settings, session=True, fresh=fresh)
    wait_until_handled(process.pid)
    assert not (tmp_path / "outputs").exists() or not fresh  # before anything that takes time
    time.sleep(seconds)
    assert ask(process, group=True) < 20
    for path in tmp_path.glob("outputs/*/*/seed*/record.json"):
        assert Run(path.parent).record()["status"] == "interrupted"


@pytest.mark.slow
def test_two_processes_begin_an_evaluation_anew_that_they_were_asked_to_leave(tmp_path: Path) -> None:
    """With one batch more in the first process."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "left").mkdir()
    settings = (*TWO, "data.test_images=2001", "data.eval_batch_size=1", "iterations=6")
    assert start(tmp_path / "whole", *settings).wait() == 0
    process = start(tmp_path / "left", *settings, session=True)
    run = wait_for_rows(tmp_path / "left", 1)
    time.sleep(0.5)
    ask(process, group=True)
    assert start(tmp_path / "left", *settings).wait() == 0
    assert curve(run) == curve(only_run(tmp_path / "whole"))


class Ended:
    """Of the processes of a run, how they ended."""

    def __init__(self, *codes: int) -> None:
        self.returncode = codes[0]


@pytest.mark.parametrize(
    ("codes", "asked", "expected"),
    [
        ([1, 75], True, 75),  # the first failed, as the second had stopped
        ([1, -9], True, 75),
        ([1, 1], True, 1),  # it failed for itself, and the second with it
        ([1, -9], False, 1),
        ([1], True, 1),
    ],
)
def test_a_failure_is_an_interruption_where_another_process_had_stopped(
    tiny: Tiny, codes: list[int], asked: bool, expected: int
) -> None:
    run, _ = tiny()
    run.update(status="failed", error="ConnectionError: closed by peer", traceback="...")
    processes = object.__new__(Processes)
    processes.started = [Ended(code) for code in codes]  # type: ignore[misc]
    processes.asked, processes.killed, processes.first_failed = asked, False, (0, codes[0])
    assert conclude(run, processes, codes[0], [signal.SIGTERM]) == expected
    assert run.record()["status"] == ("interrupted" if expected == 75 else "failed")


class Ending:
    """A process that is seen with one exit code after the other."""

    def __init__(self, *codes: int | None) -> None:
        self.codes = iter(codes)

    def poll(self) -> int | None:
        return next(self.codes)


@pytest.mark.parametrize(
    ("first", "second", "cause"),
    [
        ((1,), (-9,), (1, -9)),  # both ended between two looks
        ((1, 1), (None, -9), (1, -9)),  # the other saw its connection close first
        ((None, -9), (1, 1), (0, -9)),
        ((None, -6), (1, 1), (1, 1)),  # an abort may follow from the other's end
        ((1, 1), (None, 1), (0, 1)),
        ((None, None), (None, 0), None),
    ],
)
def test_where_one_process_was_killed_that_is_the_cause(
    first: tuple[int | None, ...], second: tuple[int | None, ...], cause: tuple[int, int] | None
) -> None:
    processes = object.__new__(Processes)
    processes.started = [Ending(*first), Ending(*second)]  # type: ignore[list-item]
    processes.killed, processes.first_failed = False, None
    for _ in first:
        processes._codes()
    assert processes.first_failed == cause


def test_a_job_of_another_launch_is_waited_for(tiny: Tiny) -> None:
    run, config = tiny()
    launcher = PoolLauncher(n_jobs=1)
    launcher.stopping = False
    (job,) = jobs = launcher.start([config])
    with run.ownership():
        launcher.step(jobs)
        assert (job.status, job.process) == ("in use", None)
        assert job.reason.startswith(f"by process {os.getpid()} on ")
        assert not launcher.finished(jobs)
        launcher.stopping = True
        assert launcher.finished(jobs)
        launcher.stopping = False
    launcher.step(jobs)
    assert job.status == "running"
    assert job.process is not None
    job.process.kill()
    job.process.wait()


@pytest.mark.slow
def test_many_launches_of_a_sweep_run_each_job_once_and_all_end_well(tmp_path: Path) -> None:
    sweep = ("hydra.mode=MULTIRUN", "seed=0,1,2", "iterations=60")
    launches = [start(tmp_path, *sweep) for _ in range(6)]
    assert {process.wait() for process in launches} == {0}
    assert len(list(tmp_path.glob("outputs/*/*/seed*/record.json"))) == 3
    for path in tmp_path.glob("outputs/*/*/seed*"):
        assert len(list(path.glob("events*"))) == 1


def test_reasons_and_names_are_no_markup(composed: Composed, capsys: pytest.CaptureFixture[str]) -> None:
    job = LocalJob(composed(*TINY))
    job.status, job.reason = "failed", "[/__w/pytorch/pair.cc:78] closed [bold]:boom:"
    with JobsTable([job]):
        pass
    assert job.reason in capsys.readouterr().out
