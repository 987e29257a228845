"""The display of a sweep: a live table on a terminal, lines elsewhere, and a closing table."""

import time
from collections.abc import Sequence
from typing import Protocol

from rich.live import Live
from rich.table import Table

from resnet_lab.checks import UserError
from resnet_lab.runs.identity import label
from resnet_lab.runs.progress import time_left
from resnet_lab.runs.swept import joined, said, said_value, settings, swept, word
from resnet_lab.sweeps.outlook import AHEAD, Outlook, WatchedJob
from resnet_lab.sweeps.screen import Screen
from resnet_lab.text import one_line

WIDE = 100  # width of a terminal that has room for folders, in characters


class ShownJob(WatchedJob, Protocol):
    """The attributes of a job that the table needs."""

    reason: str


class JobsTable:
    """A context: shows the jobs while it is open, and their final state when it closes."""

    EVERY = 1.0  # seconds between looks at the runs' curves
    SAY_EVERY = 60.0  # seconds between lines that give the time left

    def __init__(self, jobs: Sequence[ShownJob]) -> None:
        self.jobs = jobs
        self.swept = swept([job.config for job in jobs])
        self.console = Screen()
        self.told: dict[str, str] = {}
        self.drawn = 0.0
        self.spoken = time.monotonic()
        self.outlook = Outlook(jobs)
        # a net's name alone is not distinct in a sweep over experiments
        self.several = len({job.run.directory.parent.parent for job in jobs}) > 1
        self.live = Live(console=self.console, transient=True, auto_refresh=False)

    def __enter__(self) -> "JobsTable":
        with self.console.may_go():
            if self.console.is_terminal:
                self.live.start()
        return self

    def refresh(self) -> None:
        with self.console.may_go():
            if not self.console.is_terminal:
                self._tell_changes()
                self._tell_time()
            elif time.monotonic() - self.drawn > self.EVERY:
                self.outlook.look()
                self.live.update(self._table(live=True), refresh=True)
                self.drawn = time.monotonic()

    def __exit__(self, *_: object) -> None:
        with self.console.may_go():
            self._close()

    def _close(self) -> None:
        if self.console.is_terminal:
            self.live.stop()
        else:
            self._tell_changes()
        self.console.print(self._table())
        for job in self.jobs:
            if job.reason:
                self.console.print(one_line(f"{self._name(job)} {job.status}: {job.reason}", 2000), soft_wrap=True)

    def _net(self, job: ShownJob) -> str:
        experiment = f"{job.run.directory.parent.parent.name}/" if self.several else ""
        return one_line(f"{experiment}{label(job.config)}")

    def _name(self, job: ShownJob) -> str:
        return joined(self._net(job), said(job.config, self.swept), f"seed {job.config['seed']}")

    def _cells(self, job: ShownJob) -> list[str]:
        """Cells that tell the job from the others, one per swept setting."""
        found = settings(job.config)
        return [self._net(job), *(said_value(found, key) for key in self.swept), str(job.config["seed"])]

    def _state(self, job: ShownJob, live: bool) -> list[str]:
        """Iteration and errors, with speed and time left between them for a live job."""
        iteration, *errors = latest(job)
        if not live:
            return [iteration, *errors]
        if (now := self.outlook.of.get(job.config["run_dir"])) is None:
            return [iteration, "", "", *errors]
        return [f"{now.iteration}/{now.iterations}", now.speed(), now.left(), *errors]

    def _tell_changes(self) -> None:
        for job in self.jobs:
            if job.status != self.told.get(job.config["run_dir"], "waiting"):
                self.told[job.config["run_dir"]] = job.status
                self.console.print(f"{self._name(job)} {job.status} {progress(job)}".rstrip(), soft_wrap=True)

    def _tell_time(self) -> None:
        if not self.outlook.jobs or time.monotonic() - self.spoken < self.SAY_EVERY:
            return
        self.spoken = time.monotonic()
        self.outlook.look()
        self.console.print(self._all_left(), soft_wrap=True)

    def _all_left(self) -> str:
        ended = len(self.jobs) - sum(job.status in AHEAD for job in self.jobs)
        return f"{ended} of {len(self.jobs)} jobs ended, {time_left(self.outlook.seconds_left())} left for all"

    def _table(self, live: bool = False) -> Table:
        """The table; a live one has columns for speed and time left."""
        live = live and bool(self.outlook.jobs)  # benchmarks have neither
        table = Table(box=None, caption=self._all_left() if live else None, caption_justify="left")
        told = ["net", *(word(key, self.swept) for key in self.swept), "seed", "status"]
        for name in [*told, "iteration", *(["images/s", "left"] if live else [])]:
            table.add_column(name, no_wrap=True)
        for name in ("train error %", "val error %"):
            table.add_column(name, min_width=6)
        with_folder = self.console.width >= WIDE
        if with_folder:
            table.add_column("folder", overflow="ellipsis")
        for job in self.jobs:
            if job.status != "waiting" or not self.console.is_terminal:
                table.add_row(
                    *self._cells(job),
                    job.status,
                    *self._state(job, live),
                    *([folder_of(job)] if with_folder else []),
                )
        waiting = sum(job.status == "waiting" for job in self.jobs)
        if waiting and self.console.is_terminal:
            table.add_row(f"{waiting} more", *[""] * (len(told) - 2), "waiting")
        return table


def folder_of(job: ShownJob) -> str:
    return one_line("/".join(job.run.directory.parts[-2:]))


def latest(job: ShownJob) -> tuple[str, str, str]:
    """Iteration and errors at the last evaluation, as far as they can be read."""
    try:
        row = job.run.metrics()[-1]
        done = f"{row['step']}/{job.config['iterations']}"
        return done, f"{float(row['train_error']):.2f}", f"{float(row['val_error']):.2f}"
    except (UserError, LookupError, OSError, ValueError):
        return ("", "", "")


def progress(job: ShownJob) -> str:
    iteration, train_error, val_error = latest(job)
    return f"{iteration}: train error {train_error} %, val error {val_error} %" if iteration else ""
