"""The common part of the lab's launchers: compose all jobs first, watch them, and sum up at the end."""

import contextlib
import importlib.util
import sys
import time
import types
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, Generic, TypeVar

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from resnet_lab.checks import UserError
from resnet_lab.config.again import typed
from resnet_lab.config.compose import freeze
from resnet_lab.files import unusable
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import differences
from resnet_lab.runs.jobs import trains
from resnet_lab.runs.plan import add_to_plan
from resnet_lab.runs.processes import started_outside
from resnet_lab.runs.signals import EXIT_INTERRUPTED, handle_signals
from resnet_lab.sweeps.analyses import analyze, asked_for, asked_in, check_analyses
from resnet_lab.sweeps.beginning import check_start
from resnet_lab.sweeps.table import JobsTable


class Job:
    """One run of the sweep, as its launcher sees it.

    `status` is waiting, in use (by another launch, for which it waits), running, stopping, completed, interrupted
    or failed.
    """

    def __init__(self, config: dict[str, Any], command: Sequence[str] = ()) -> None:
        self.config, self.command = config, command  # and the words typed for it
        self.run = Run(config["run_dir"])
        self.status = "waiting"
        self.reason = ""

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "interrupted", "failed")

    def end(self, status: str, how: str) -> None:
        """Note the end, with the reason from the run's own record where it has one."""
        self.status = status
        if status != "completed":
            with contextlib.suppress(UserError):  # a damaged record
                how = self.run.record().get("error") or how
            self.reason = f"{how}; see {self.run.log_path}"


JobT = TypeVar("JobT", bound=Job)  # what a launcher knows of each of its jobs


class SweepLauncher(Launcher, Generic[JobT]):
    """Runs the jobs of a sweep, shows how they go, and exits nonzero unless every job completed.

    A subclass defines its jobs, and how to start, watch and stop them.
    """

    commands: Mapping[str, Sequence[str]] = MappingProxyType({})  # the words typed for each run directory

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.stopping = False
        self.analyzed = 0  # the exit code of the analyses
        self.composed: dict[tuple[str, ...], dict[str, Any]] = {}

    @abstractmethod
    def start(self, configs: list[dict[str, Any]]) -> Sequence[JobT]:
        """Make the jobs of these configs, none of them started or all of them queued."""

    @abstractmethod
    def step(self, jobs: Sequence[JobT]) -> None:
        """Update the jobs, start those that can start, and stop all if `stopping`."""

    def close(self) -> None:
        """Release whatever was needed to start jobs."""

    def check_machine(self, config: dict[str, Any]) -> None:
        """Refuse a job that cannot run where this launcher runs it."""

    def check(self, job_overrides: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """The configs of the jobs, each composed once: a file edited during the sweep changes none of it.

        Raises:
            UserError: one of them cannot run, or two would share a directory.
        """
        if place := started_outside():
            raise UserError(
                f"{place.starter} started {place.processes} processes, and a sweep starts those of its runs "
                "itself; start the sweep without it, or one run at a time"
            )
        configs = [self._compose(tuple(overrides)) for overrides in job_overrides]
        check_distinct(configs)
        for config in configs:
            self.check_machine(config)
            check_start(config)
        words = [word for config in configs[:1] for word in self.commands.get(config["run_dir"], ())]
        check_analyses(self.hydra_context.config_loader, asked_for(configs), words)
        return configs

    def finished(self, jobs: Sequence[JobT]) -> bool:
        return all(job.ended for job in jobs)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        handle_signals(self._stop)
        configs = self.check(job_overrides)
        # a run asked for twice is one job
        jobs = self._run(list({config["run_dir"]: config for config in configs}.values()))
        if code := exit_code(jobs) or self.analyzed:
            sys.exit(code)
        of = {job.config["run_dir"]: job for job in jobs}
        return [job_return(of[config["run_dir"]], o) for config, o in zip(configs, job_overrides, strict=True)]

    def _compose(self, overrides: tuple[str, ...]) -> dict[str, Any]:
        if self.stopping:
            sys.exit(EXIT_INTERRUPTED)
        if overrides not in self.composed:
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            HydraConfig.instance().set_config(config)
            self.composed[overrides] = frozen = freeze(config)
            self.commands = {**self.commands, frozen["run_dir"]: typed()}
        return self.composed[overrides]

    def _run(self, configs: list[dict[str, Any]]) -> Sequence[JobT]:
        experiments = sorted({Run(config["run_dir"]).directory.parent.parent for config in configs})
        for experiment in experiments:
            runs = [config["run_dir"] for config in configs]
            try:
                add_to_plan(experiment, [run for run in runs if Path(run).is_relative_to(experiment)])
            except OSError as error:
                raise unusable(experiment, error) from error
        jobs = self.start(configs)
        try:
            self._watch(jobs)
        finally:
            self.close()
        self.analyzed = self._analyze(jobs)
        # measurements of speed have a table of their own
        for experiment in experiments if trains(configs[0]) else []:
            write_report_of(experiment)
        return jobs

    def _analyze(self, jobs: Sequence[Job]) -> int:
        """Run the analyses that the configs ask for on the completed runs; return an exit code."""
        code = 0
        for asked in asked_for([job.config for job in jobs]):
            complete = [job for job in jobs if job.status == "completed" and asked in asked_in(job.config)]
            if complete and not self.stopping:
                words = self.commands.get(complete[0].config["run_dir"], ())
                code = analyze([job.run for job in complete], asked, words, lambda: self.stopping) or code
        return EXIT_INTERRUPTED if self.stopping else int(bool(code))

    def _watch(self, jobs: Sequence[JobT]) -> None:
        with JobsTable(jobs) as table:
            while not self.finished(jobs):
                self.step(jobs)
                table.refresh()
                time.sleep(0.2)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True


def check_distinct(configs: list[dict[str, Any]]) -> None:
    """Refuse two different jobs for one directory, of which one would never run."""
    first: dict[str, dict[str, Any]] = {}
    for config in configs:
        if found := differences(first.setdefault(config["run_dir"], config), config):
            raise UserError(
                f"two jobs of the sweep would share {config['run_dir']} but differ in {', '.join(found)}; leave "
                "out run_name, or sweep over experiment_name, too"
            )


def exit_code(jobs: Sequence[Job]) -> int:
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
    from resnet_lab.report import write_report  # imports what draws, which starting does not need

    print(f"report: {write_report([experiment], experiment)}")


def register_launchers() -> None:
    """Make `_target_: hydra_plugins.resnet_lab.PoolLauncher` and the like name the launchers of this package, and
    replace Hydra's sweeper with ours.

    Hydra takes plugins only from the package hydra_plugins, where it looks them up by name.
    """
    registry = Plugins.instance()  # which must not find the module that is made below
    try:
        package = importlib.import_module("hydra_plugins")
    except ImportError:  # no plugin is installed
        package = sys.modules["hydra_plugins"] = types.ModuleType("hydra_plugins")
    plugins = types.ModuleType("hydra_plugins.resnet_lab")
    sys.modules[plugins.__name__] = package.resnet_lab = plugins  # type: ignore[attr-defined]
    for name, plugin in (("pool", "PoolLauncher"), ("slurm", "SlurmLauncher"), ("search", "SearchSweeper")):
        found = getattr(importlib.import_module(f"resnet_lab.sweeps.{name}"), plugin)
        found.__module__ = plugins.__name__
        setattr(plugins, plugin, found)
        registry.register(found)
    sweeper = importlib.import_module("resnet_lab.sweeps.sweeper").CheckingSweeper
    registry.class_name_to_class["hydra._internal.core_plugins.basic_sweeper.BasicSweeper"] = sweeper
    if importlib.util.find_spec("submitit") is None:
        # conf/hydra/launcher/slurm.yaml asks for it; its launcher says what to install
        ConfigStore.instance().store(group="hydra/launcher", name="submitit_slurm", node={})
