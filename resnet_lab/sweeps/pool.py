"""`hydra/launcher=pool`: the jobs of a sweep in parallel on one machine, each a fresh process."""

import importlib
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from resnet_lab.checks import UserError
from resnet_lab.config.values import COUNT_OR_NULL, check, one_of
from resnet_lab.files import open_plain
from resnet_lab.runs.directory import EXIT_IN_USE
from resnet_lab.runs.nursery import Requested
from resnet_lab.runs.processes import CORES, devices, visible_gpus
from resnet_lab.runs.signals import EXIT_INTERRUPTED
from resnet_lab.runs.start import InUse, check_machine, prepare
from resnet_lab.sweeps.job_process import Starter
from resnet_lab.sweeps.launcher import Job, SweepLauncher


class LocalJob(Job):
    """A job and, while it runs, its process and the place it has taken."""

    def __init__(self, config: dict[str, Any], command: Sequence[str] = ()) -> None:
        super().__init__(config, command)
        self.process: subprocess.Popen[bytes] | Requested | None = None
        self.place = -1

    def begin(self, place: int, extra: dict[str, str], starter: Starter) -> None:
        """Start the process, unless the run is complete or cannot be prepared."""
        self.reason = ""
        try:
            run = prepare(self.config, self.command)
        except UserError as error:
            self.status, self.reason = "in use" if isinstance(error, InUse) else "failed", str(error)
            return
        if run is None:
            self.status = "completed"
            return
        with open_plain(run.log_path, "a+") as log:
            self.process = starter.start(run, self.config, extra, log)
        self.place, self.status = place, "running"

    def is_finished(self) -> bool:
        """Whether a launch before this one has completed it."""
        try:
            return not self.config["force"] and self.run.is_complete()
        except UserError:  # a damaged record, which is told when the job begins
            return False

    def can_begin(self) -> bool:
        """Whether the job waits, and no other process uses its directory."""
        if self.status not in ("waiting", "in use"):
            return False
        if owner := self.run.owner():
            self.status, self.reason = "in use", f"by {owner}"
        return owner is None

    def poll(self) -> None:
        """Note how it ended, if it has."""
        if self.process is None or (code := self.process.poll()) is None:
            return
        self.process, self.place = None, -1
        if code == 0:
            self.end("completed", "")
        elif code == EXIT_IN_USE:
            self.status = "in use"
        elif code == EXIT_INTERRUPTED:
            self.end("interrupted", "interrupted")
        else:
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            self.end("failed", how)

    def stop(self) -> None:
        """Ask the process to end, only once: a second request would kill it before it has noted how it ended."""
        if self.process and self.status == "running":
            self.status = "stopping"
            self.process.terminate()


class PoolLauncher(SweepLauncher[LocalJob]):
    """Runs `n_jobs` jobs at a time, and shares the cores or the GPUs out between them.

    Args:
        n_jobs: number of jobs at a time; null for as many as there are cores or GPUs for each job's devices.
        on_failure: `continue` with the other jobs, or `stop` them (the same command resumes them).

    Raises:
        UserError: a setting is out of its range.
    """

    def __init__(self, n_jobs: int | None = None, on_failure: str = "continue") -> None:
        check("hydra.launcher.n_jobs", n_jobs, COUNT_OR_NULL)
        check("hydra.launcher.on_failure", on_failure, one_of("continue", "stop"))
        self.n_jobs, self.on_failure = n_jobs, on_failure

    def check_machine(self, config: dict[str, Any]) -> None:
        check_machine(config)

    def start(self, configs: list[dict[str, Any]]) -> list[LocalJob]:
        largest = max((config["trainer"] for config in configs), key=devices)
        self.places = share_out(largest, self.n_jobs, len(configs))
        jobs = [LocalJob(config, self.commands.get(config["run_dir"], ())) for config in configs]
        unfinished = [job.config for job in jobs if not job.is_finished()]
        self.starter = Starter(unfinished, self.places[0])
        if not self.starter.is_ready():  # while torch is imported there, import here what draws the report
            importlib.import_module("resnet_lab.report")
        return jobs

    def step(self, jobs: Sequence[LocalJob]) -> None:
        for job in jobs:
            job.poll()
            self.stopping |= job.status == "failed" and self.on_failure == "stop"
        for job in jobs if self.stopping else []:
            job.stop()
        if not self.starter.is_ready():
            return
        for place, extra in enumerate(self.places):
            if self.stopping or place in [job.place for job in jobs]:
                continue
            if ready := next((job for job in jobs if job.can_begin()), None):
                ready.begin(place, extra, self.starter)
                self.stopping |= ready.status == "failed" and self.on_failure == "stop"

    def finished(self, jobs: Sequence[LocalJob]) -> bool:
        return all(job.ended or (self.stopping and job.status in ("waiting", "in use")) for job in jobs)

    def close(self) -> None:
        self.starter.end()


def share_out(trainer: dict[str, Any], n_jobs: int | None, jobs: int) -> list[dict[str, str]]:
    """The environment of each of the places for jobs: how many threads, or which GPUs.

    A job takes as many cores or GPUs as its Trainer has devices.
    """
    each = devices(trainer)
    if trainer.get("accelerator") == "cpu":
        places = min(n_jobs or max(1, CORES // each), jobs)
        return [{"OMP_NUM_THREADS": str(max(1, CORES // (places * each)))}] * places
    if isinstance(trainer["devices"], list):  # these and no others, for each job
        return [{}] * (n_jobs or 1)
    gpus = visible_gpus()
    groups = [",".join(gpus[i : i + each]) for i in range(0, len(gpus) - each + 1, each)]
    if not groups:  # none to share out: the Trainer says so
        return [{}] * (n_jobs or 1)
    return [{"CUDA_VISIBLE_DEVICES": groups[place % len(groups)]} for place in range(n_jobs or len(groups))]
