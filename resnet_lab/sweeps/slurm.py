"""`hydra/launcher=slurm`: the jobs of a sweep on a SLURM cluster, with hydra-submitit-launcher's settings.

Arrays of jobs, one task per device. Submitit alone puts a job back into the queue: when its time runs out,
when it is preempted, or when it is sent SIGTERM; the run resumes from its checkpoint.
"""

import dataclasses
import importlib.util
import itertools
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from resnet_lab import trust
from resnet_lab.checks import UserError
from resnet_lab.runs.processes import devices, rank
from resnet_lab.runs.signals import EXIT_INTERRUPTED, PARENT, held
from resnet_lab.runs.start import command, environment, prepare, wait_for_first_process
from resnet_lab.sweeps.launcher import Job, SweepLauncher

LOOK_EVERY = 5.0  # seconds between two questions to SLURM
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}


class Task:
    """The task of a SLURM job: the run of a frozen config, or one of its processes."""

    def __init__(self, config: dict[str, Any], typed: Sequence[str]) -> None:
        self.typed = typed
        self.config, self.trusted = config, trust.arguments()

    def __call__(self) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK", "1"))
        try:
            trust.take(self.trusted)
            run = prepare(self.config, self.typed) if rank() == 0 else wait_for_first_process(self.config)
        except UserError as error:
            sys.exit(f"resnet-lab: {error}")
        if run is None:
            return
        environ = environment(self.config) | {PARENT: str(os.getpid())}
        with held():
            process = subprocess.Popen(command(run, self.config), env=environ)
        code = process.wait()
        if code == EXIT_INTERRUPTED and is_running(os.environ["SLURM_JOB_ID"]):
            os.kill(os.getpid(), signal.SIGUSR2)  # for submitit: preempted; a job that was cancelled stays so
        sys.exit(code)

    def checkpoint(self) -> Any:
        """The task that submitit runs once the job is requeued: the same one, as the run resumes by itself."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmJob(Job):
    """A job and its submission to SLURM."""

    def __init__(self, config: dict[str, Any], command: Sequence[str] = ()) -> None:
        super().__init__(config, command)
        self.submission: Any = None
        self.before = self._noted()  # as an earlier launch left it

    def _noted(self) -> dict[str, Any]:
        try:
            return self.run.record()
        except UserError:  # damaged
            return {}

    def note(self, state: str) -> None:
        """Take over SLURM's state; how a run ended is what its record says."""
        if state not in ENDED:
            self.status = "waiting" if state == "PENDING" else "running"
            return
        status = self.run.status()
        told = status in ("completed", "failed", "interrupted") and self._noted() != self.before
        if not told:  # it never got that far
            status = "interrupted" if state == "CANCELLED" else "failed"
        self.end(status, f"SLURM ended it as {state}, {self.submission.paths.stderr}")


class SlurmLauncher(SweepLauncher[SlurmJob]):
    """Submits the jobs of a sweep and waits for them; stopped, it cancels them.

    Args:
        settings: those of hydra-submitit-launcher's submitit_slurm; tasks, nodes and GPUs follow from each
            run's Trainer.

    Raises:
        UserError: submitit is not installed, or SLURM does not take the jobs.
    """

    def __init__(self, **settings: Any) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise UserError("hydra/launcher=slurm needs more packages: pip install 'resnet-lab[slurm]'")
        self.settings = {
            name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for name, value in settings.items()
        }
        self.looked = 0.0

    def check_machine(self, config: dict[str, Any]) -> None:
        """Refuse a job whose number of GPUs would be that of the machine that submits it."""
        trainer = config["trainer"]
        asked = trainer.get("devices", "auto")
        if asked in (None, "auto", -1) and trainer.get("accelerator") != "cpu":
            raise UserError(
                f"trainer.devices must be a number where hydra/launcher=slurm asks for GPUs, got {asked!r}; "
                "set trainer.devices=4, say"
            )

    def start(self, configs: list[dict[str, Any]]) -> list[SlurmJob]:
        jobs = [SlurmJob(config, self.commands.get(config["run_dir"], ())) for config in configs]
        for job in jobs:
            if job.run.is_complete() and not job.config["force"]:
                job.status = "completed"
        waiting = [job for job in jobs if not job.ended]
        for resources, group in itertools.groupby(sorted(waiting, key=needs), needs):
            self._submit(list(group), dict(resources))
        return jobs

    def step(self, jobs: Sequence[SlurmJob]) -> None:
        if time.monotonic() - self.looked < LOOK_EVERY:
            return
        active = [job for job in jobs if not job.ended]
        ids = [job.submission.job_id for job in active]
        if self.stopping and ids:
            subprocess.run(["scancel", *ids])
        if active and (known := states(ids)) is not None:
            for job in active:
                # what SLURM has forgotten has ended: by itself, or in the queue as it was told to
                job.note(known.get(job.submission.job_id, "CANCELLED" if self.stopping else "COMPLETED"))
        self.looked = time.monotonic()

    def _submit(self, jobs: list[SlurmJob], resources: dict[str, int]) -> None:
        from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
        from submitit import AutoExecutor

        settings = {name: value for name, value in self.settings.items() if value is not None} | resources
        folder, timeouts = settings.pop("submitit_folder"), settings.pop("max_num_timeout")
        common = {setting.name for setting in dataclasses.fields(BaseQueueConf)}
        try:
            how = {"slurm_max_num_timeout": timeouts, "slurm_python": f"{shlex.quote(sys.executable)} -P"}
            executor = AutoExecutor(str(folder), cluster="slurm", **how)
            executor.update_parameters(**{n if n in common else f"slurm_{n}": v for n, v in settings.items()})
            submissions = executor.submit_array([Task(job.config, job.command) for job in jobs])
        except RuntimeError as error:  # no SLURM here, or one that will not have the jobs
            raise UserError(f"hydra/launcher=slurm: {error}") from error
        for job, submission in zip(jobs, submissions, strict=True):
            job.submission = submission


def needs(job: SlurmJob) -> list[tuple[str, int]]:
    """The tasks, machines and GPUs of a job, one task per device."""
    trainer = job.config["trainer"]
    each = devices(trainer)
    gpus = [("gpus_per_node", each)] if trainer["accelerator"] != "cpu" else []
    return [("nodes", int(trainer.get("num_nodes", 1))), ("tasks_per_node", each), *gpus]


def is_running(job: str) -> bool:
    """Whether a job has not been cancelled, however busy SLURM is."""
    while (known := states([job])) is None:
        time.sleep(LOOK_EVERY)
    return "RUNNING" in known.values()


def states(ids: list[str]) -> dict[str, str] | None:
    """SLURM's word for the state of each job that it still knows; None if it does not answer."""
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", f"--jobs={','.join(ids)}"]
    asked = subprocess.run(command, capture_output=True, text=True)
    if asked.returncode and "Invalid job id" not in asked.stderr:
        return None
    return dict(line.split() for line in asked.stdout.splitlines())
