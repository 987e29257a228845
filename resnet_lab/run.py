"""One run, from its frozen config to its end: `python -m resnet_lab.run RUN_DIRECTORY`.

This process computes nothing and imports no torch. It owns the directory, starts the run's processes
(resnet_lab.worker, one a device), passes on requests to stop, and sees to it that all of them end: when
one dies, when one hangs, and whatever kills them, with the reason in the record.
"""

import os
import signal
import subprocess
import sys
import time
from typing import Any

from omegaconf import OmegaConf

from resnet_lab.checks import UserError
from resnet_lab.processes import check_place, environments, rank
from resnet_lab.record import EXIT_INTERRUPTED, Run, now
from resnet_lab.signals import PARENT, end_with_parent, handle_signals

# Seconds from a request to stop, or from the end of one process, until the others are killed.
GRACE = 20.0


def main() -> None:
    requests: list[int] = []
    handle_signals(lambda number, frame: requests.append(number))
    if PARENT in os.environ:
        end_with_parent(signal.SIGTERM, int(os.environ[PARENT]))
    run = Run(sys.argv[1])
    try:
        config: Any = OmegaConf.to_container(OmegaConf.load(run.config_path))
        check_place(config["trainer"])
        if rank():  # on another machine, or as another task: the first process owns the directory
            sys.exit(Processes(run, config, ()).wait(requests))
        with run.ownership() as lock:
            run.update(status="running", error=None, traceback=None)
            processes = Processes(run, config, (lock,))
            code = processes.wait(requests)
            sys.exit(conclude(run, processes, code, requests))
    except (OSError, UserError) as error:
        sys.exit(f"resnet-lab: {error}")


class Processes:
    """The processes of one run on this machine.

    They inherit `keep_open`, the lock of the directory among it: it is free when the last of them is gone.
    """

    def __init__(self, run: Run, config: dict[str, Any], keep_open: tuple[int, ...]) -> None:
        own = {PARENT: str(os.getpid())}
        self.started = [
            subprocess.Popen(
                [sys.executable, "-m", "resnet_lab.worker", str(run.directory)],
                env=os.environ | own | extra,
                pass_fds=keep_open,
            )
            for extra in environments(config["trainer"])
        ]
        self.first_failed: tuple[int, int] | None = None  # rank and exit code

    def wait(self, requests: list[int]) -> int:
        """Wait for all of them; return the first one's exit code."""
        told, deadline = False, float("inf")
        while None in (codes := [process.poll() for process in self.started]):
            failed = [(number, code) for number, code in enumerate(codes) if code]
            self.first_failed = self.first_failed or (failed[0] if failed else None)
            if requests and not told:
                self._send(requests[0])
                told = True
            if told or failed or codes[0] is not None:
                deadline = min(deadline, time.monotonic() + GRACE)
            if time.monotonic() > deadline:
                self._send(signal.SIGKILL)
            time.sleep(0.05)
        failed = [(number, code) for number, code in enumerate(codes) if code]
        self.first_failed = self.first_failed or (failed[0] if failed else None)
        return int(codes[0] or 0)

    def _send(self, number: int) -> None:
        for process in self.started:
            process.send_signal(number)


def conclude(run: Run, processes: Processes, code: int, requests: list[int]) -> int:
    """Say in the record what the processes could not say themselves; return the run's exit code."""
    record = run.record()
    status = record.get("status")
    if status == "completed" and code == 0:
        return 0
    # what fails in a process that is being stopped fails because the others stop
    if status == "interrupted" or (requests and (status != "failed" or record.get("traceback"))):
        reason = record.get("error") if status == "interrupted" else None
        run.update(status="interrupted", error=reason or "did not stop in time and was ended", ended=now())
        return EXIT_INTERRUPTED
    number, how = processes.first_failed or (0, code)
    if status != "failed" or (record.get("traceback") and number):
        # the first process, where it said anything, saw only that another one was gone
        reason = f"process {number} {ending(how)}; {run.log_path} may tell more"
        run.update(status="failed", error=reason, ended=now())
        print(f"resnet-lab: {reason}", file=sys.stderr)
    return 1


def ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), as the system does when memory runs out: try a smaller data.batch_size"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


if __name__ == "__main__":
    main()
