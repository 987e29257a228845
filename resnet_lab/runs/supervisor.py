"""One run, from its frozen config to its end: `python -m resnet_lab.runs.supervisor RUN_DIRECTORY`.

This process computes nothing and imports no torch. It owns the directory, starts the run's processes
(resnet_lab.runs.worker, one per device), passes on requests to stop, and makes sure that all of them end, whether
one dies, one hangs or something kills them, with the reason in the record.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from omegaconf import OmegaConf

from resnet_lab import trust
from resnet_lab.checks import UserError
from resnet_lab.files import no_space
from resnet_lab.runs.directory import EXIT_IN_USE, Run, now
from resnet_lab.runs.identity import hash_of
from resnet_lab.runs.nursery import Forked, run_main
from resnet_lab.runs.processes import SCRATCH, environments, python, rank, started_outside
from resnet_lab.runs.signals import EXIT_INTERRUPTED, PARENT, end_with_parent, handle_signals, held, ignore_signals

# Seconds from a request to stop, or from the end of one process, until the others are killed; all end within 20.
GRACE = 18.0
WORKER = "resnet_lab.runs.worker"


def main() -> None:
    requests: list[int] = []
    handle_signals(lambda number, frame: requests.append(number))
    if PARENT in os.environ:
        end_with_parent(signal.SIGTERM, int(os.environ[PARENT]))
    run = Run(sys.argv[1])
    try:
        sys.argv[1:] = trust.take(sys.argv[1:])
        sys.exit(supervise(run, requests))
    except (OSError, UserError) as error:
        print(f"resnet-lab: {no_space(error, run.directory) or error}", file=sys.stderr)
        sys.exit(EXIT_IN_USE if isinstance(error, BlockingIOError) and PARENT in os.environ else 1)
    finally:
        ignore_signals()


def supervise(run: Run, requests: list[int]) -> int:
    """Take the run from start to end; return its exit code."""
    with tempfile.TemporaryDirectory(prefix="resnet-lab-", ignore_cleanup_errors=True) as scratch:
        os.environ[SCRATCH] = scratch  # where killed processes leave what they cannot remove
        if rank():  # on another machine, or as another task: the first process owns the directory
            return Processes(run, load(run), ()).wait(requests)
        return own(run, requests)


def own(run: Run, requests: list[int]) -> int:
    with run.ownership() as lock:
        config = load(run)
        if run.is_complete():
            return 0
        run.remove_leftovers()
        run.update(status="running", error=None, traceback=None, config=config)
        processes = Processes(run, config, (lock,))
        code = conclude(run, processes, processes.wait(requests), requests)
        run.remove_leftovers()
        return code


def load(run: Run) -> Any:
    """The frozen config; refuses any other than the one this process was started for."""
    config: Any = OmegaConf.to_container(OmegaConf.load(run.config_path))
    if sys.argv[2:] and sys.argv[2] != hash_of(config):
        raise UserError(f"another launch has put its config into {run.directory}; start this one again")
    return config


class Processes:
    """The processes of one run on this machine.

    They inherit `keep_open`, the lock of the directory among it: it is free when the last of them is gone.
    """

    def __init__(self, run: Run, config: dict[str, Any], keep_open: tuple[int, ...]) -> None:
        own = {PARENT: str(os.getpid())}
        arguments = [str(run.directory), *trust.arguments()]
        with held():
            self.started = [
                start_worker(arguments, os.environ | own | extra, keep_open)
                for extra in environments(config["trainer"])
            ]
        self.first_failed: tuple[int, int] | None = None  # rank and exit code
        self.asked = False  # whether they were asked to stop while the first was running
        self.killed = False

    def wait(self, requests: list[int]) -> int:
        """Wait for all of them; return the first one's exit code."""
        told, deadline = False, float("inf")
        while None in (codes := self._codes()):
            if EXIT_INTERRUPTED in codes and not requests:
                requests.append(signal.SIGTERM)  # one was asked to stop: all stop
            if requests and not told:
                self._send(requests[0])
                told, self.asked = True, codes[0] is None
            # once asked to stop, or unable to continue together, they get some time to end
            if told or self.first_failed or codes[0] is not None:
                deadline = min(deadline, time.monotonic() + GRACE)
            if time.monotonic() > deadline:
                self.killed = True
                self._send(signal.SIGKILL)
            time.sleep(0.05)
        return int(codes[0] or 0)

    def _codes(self) -> list[int | None]:
        """The exit codes, None for those still running; notes the first failure.

        Where one was killed, and not from here, that is the cause: another may see its connection close, and end,
        before the system is through with the killed one.
        """
        codes = [process.poll() for process in self.started]
        failed = [(number, code) for number, code in enumerate(codes) if code]
        killed = [] if self.killed else [failure for failure in failed if failure[1] == -signal.SIGKILL]
        self.first_failed = next(iter(killed), self.first_failed or next(iter(failed), None))
        return codes

    def _send(self, number: int) -> None:
        for process in self.started:
            process.send_signal(number)


def start_worker(
    arguments: list[str], environ: dict[str, str], keep_open: tuple[int, ...]
) -> subprocess.Popen[bytes] | Forked:
    if "torch" in sys.modules:  # this process was forked from one that has imported all
        return Forked(lambda: run_main(WORKER, arguments, environ))
    return subprocess.Popen(python(WORKER, *arguments), env=environ, pass_fds=keep_open)


def conclude(run: Run, processes: Processes, code: int, requests: list[int]) -> int:
    """Record what the processes could not record themselves; return the run's exit code."""
    record = run.record()
    status = record.get("status")
    if status == "completed" and code == 0:
        return 0
    stopped = code == EXIT_INTERRUPTED or (requests and status != "failed")
    if status == "interrupted" or stopped or failed_as_others_stopped(record, processes):
        silent = "did not stop in time and was ended" if processes.killed else "stopped"
        run.update(status="interrupted", error=record.get("error") or silent, ended=now())
        return EXIT_INTERRUPTED
    number, how = processes.first_failed or (0, code)
    if status != "failed" or (record.get("traceback") and number and not processes.killed):
        # the first process, where it said anything, saw only that another one was gone
        reason = f"process {number} {ending(how)}; {run.log_path} may say more"
        run.update(status="failed", error=reason, ended=now())
        print(f"resnet-lab: {reason}", file=sys.stderr)
    return 1


def failed_as_others_stopped(record: dict[str, Any], processes: Processes) -> bool:
    """Whether the first process failed only because another one had stopped, as all were asked to.

    Those that torchrun or srun started cannot be seen from here, and are taken to have stopped.
    """
    if not processes.asked or not record.get("traceback"):
        return False
    codes = [process.returncode for process in processes.started[1:]]
    return started_outside() is not None or EXIT_INTERRUPTED in codes or -signal.SIGKILL in codes


def ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), as the system does when memory runs out: try a smaller data.batch_size"
    if code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with exit code {code}"


if __name__ == "__main__":
    main()
