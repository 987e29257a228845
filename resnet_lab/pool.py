"""The launcher of our sweeps: jobs in parallel on one machine, each a fresh process with a frozen config."""

import importlib
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from resnet_lab.checks import UserError, check_positive
from resnet_lab.compose import command, environment, freeze, prepare
from resnet_lab.jobs_table import JobsTable
from resnet_lab.processes import CORES, devices, visible_gpus
from resnet_lab.record import EXIT_INTERRUPTED, Run, add_to_plan, same_run
from resnet_lab.signals import PARENT


class Job:
    """One run of the sweep and, while it runs, its process."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.run = Run(config["run_dir"])
        self.status = "waiting"
        self.reason = ""
        self.process: subprocess.Popen[bytes] | None = None
        self.slot = -1

    def start(self, slot: int, extra: dict[str, str]) -> None:
        """Start the process, unless the run is complete or cannot be had."""
        try:
            run = prepare(self.config)
        except UserError as error:
            self.status, self.reason = "failed", str(error)
            return
        if run is None:
            self.status = "completed"
            return
        with run.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command(run),
                env=environment(self.config) | extra | {PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.slot, self.status = slot, "running"

    def poll(self) -> None:
        """Note how it ended, if it has."""
        if self.process is None or (code := self.process.poll()) is None:
            return
        self.process, self.slot = None, -1
        self.status = self.run.status()
        if self.status == "completed" and code == 0:
            return
        if self.status != "interrupted":
            self.status = (
                "interrupted" if code in (EXIT_INTERRUPTED, -signal.SIGTERM, -signal.SIGINT) else "failed"
            )
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.reason = f"{self.run.record().get('error') or how}; see {self.run.log_path}"

    def stop(self) -> None:
        """Ask the process once to end; asked again it would die before it has said how."""
        if self.process and self.status == "running":
            self.status = "stopping"
            self.process.terminate()


class PoolLauncher(Launcher):
    """Runs the jobs of a sweep `n_jobs` at a time; one that fails does not stop the others.

    The cores, or the GPUs, are shared out between the jobs.
    """

    def __init__(self, n_jobs: int | None = None) -> None:
        if n_jobs is not None:
            check_positive(n_jobs=n_jobs)
        self.n_jobs = n_jobs
        self.stopping = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        try:
            configs = [self._compose(overrides) for overrides in job_overrides]
            check_distinct(configs)
        except UserError as error:
            sys.exit(f"resnet-lab: {error}")
        jobs = {config["run_dir"]: Job(config) for config in configs}
        experiments = sorted({job.run.directory.parent.parent for job in jobs.values()})
        try:
            for experiment in experiments:
                add_to_plan(experiment, [run for run in jobs if Path(run).is_relative_to(experiment)])
            self._run(list(jobs.values()))
            # measurements of speed have a table of their own
            for experiment in experiments if configs[0]["job"] == "train" else []:
                write_report_of(experiment)
        except (OSError, UserError, ValueError) as error:
            sys.exit(f"resnet-lab: {error}")
        if code := exit_code(list(jobs.values())):
            sys.exit(code)
        return [job_return(jobs[config["run_dir"]], o) for config, o in zip(configs, job_overrides, strict=True)]

    def _compose(self, overrides: Sequence[str]) -> dict[str, Any]:
        # all of them before the first starts: a file edited during the sweep changes none of it
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        HydraConfig.instance().set_config(config)
        return freeze(config)

    def _run(self, jobs: list[Job]) -> None:
        slots = share_out(jobs[0].config["trainer"], self.n_jobs, len(jobs))
        previous = {s: signal.signal(s, self._stop) for s in (signal.SIGINT, signal.SIGTERM)}
        with JobsTable(jobs) as table:
            while not self._finished(jobs):
                self._step(jobs, slots)
                table.refresh()
                time.sleep(0.2)
        for number, handler in previous.items():
            signal.signal(number, handler)

    def _step(self, jobs: list[Job], slots: list[dict[str, str]]) -> None:
        for job in jobs:
            job.poll()
            if self.stopping:
                job.stop()
        for slot, extra in enumerate(slots):
            waiting = [job for job in jobs if job.status == "waiting"]
            if waiting and not self.stopping and slot not in [job.slot for job in jobs]:
                waiting[0].start(slot, extra)

    def _finished(self, jobs: list[Job]) -> bool:
        if self.stopping:
            return all(job.process is None for job in jobs)
        return all(job.status not in ("waiting", "running") for job in jobs)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True


def check_distinct(configs: list[dict[str, Any]]) -> None:
    """Refuse two different jobs for one directory, of which one would never run."""
    first: dict[str, dict[str, Any]] = {}
    for config in configs:
        if not same_run(first.setdefault(config["run_dir"], config), config):
            raise UserError(
                f"two different jobs of the sweep would run in {config['run_dir']}; leave out run_name"
            )


def share_out(trainer: dict[str, Any], n_jobs: int | None, jobs: int) -> list[dict[str, str]]:
    """The environment of each of the places for jobs: how many threads, or which GPUs.

    A job takes as many cores or GPUs as its Trainer has devices; all of them for `auto`.
    """
    each = devices(trainer)
    if trainer.get("accelerator") == "cpu":
        places = min(n_jobs or max(1, CORES // each), jobs)
        return [{"OMP_NUM_THREADS": str(max(1, CORES // (places * each)))}] * places
    gpus = visible_gpus()
    groups = [",".join(gpus[i : i + each]) for i in range(0, len(gpus) - each + 1, each)] if each else []
    if not groups:  # none to share out: the Trainer says so
        return [{}] * (n_jobs or 1)
    return [{"CUDA_VISIBLE_DEVICES": groups[place % len(groups)]} for place in range(n_jobs or len(groups))]


def exit_code(jobs: list[Job]) -> int:
    statuses = {job.status for job in jobs}
    if statuses <= {"completed"}:
        return 0
    return 1 if "failed" in statuses else EXIT_INTERRUPTED


def job_return(job: Job, overrides: Sequence[str]) -> JobReturn:
    # a sweeper that optimizes sees the validation error, and only where it is not the test error
    record = job.run.record()
    held_out = job.config["data"]["holdout"] > 0
    return JobReturn(
        overrides=overrides,
        status=JobStatus.COMPLETED,
        _return_value=record.get("val_error") if held_out else None,
    )


def write_report_of(experiment: Path) -> None:
    from resnet_lab.report import write_report  # draws: not needed to start

    print(f"report: {write_report([experiment], experiment)}")


def register_launcher() -> None:
    """Make `_target_: hydra_plugins.resnet_lab.PoolLauncher` name the launcher above.

    Hydra takes plugins from the package hydra_plugins alone, and looks them up there by name.
    """
    plugins = Plugins.instance()
    try:
        package = importlib.import_module("hydra_plugins")
    except ImportError:  # no plugin is installed
        package = sys.modules["hydra_plugins"] = types.ModuleType("hydra_plugins")
    here = sys.modules[__name__]
    sys.modules["hydra_plugins.resnet_lab"] = package.resnet_lab = here  # type: ignore[attr-defined]
    PoolLauncher.__module__ = "hydra_plugins.resnet_lab"
    plugins.register(PoolLauncher)
