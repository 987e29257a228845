"""How a sweep is going: a live table on a terminal, lines elsewhere, and a closing table."""

import time
from collections.abc import Sequence
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from resnet_lab.checks import UserError
from resnet_lab.runs.directory import Run
from resnet_lab.text import one_line


class ShownJob(Protocol):
    """What the table needs of a job."""

    run: Run
    config: dict[str, Any]
    status: str
    reason: str


class JobsTable:
    """A context: shows the jobs while it is open, and once more when it closes."""

    EVERY = 1.0  # seconds between looks at the runs' curves

    def __init__(self, jobs: Sequence[ShownJob]) -> None:
        self.jobs = jobs
        # as they are: names and reasons may look like markup
        self.console = Console(highlight=False, markup=False, emoji=False)
        self.told: dict[str, str] = {}
        self.drawn = 0.0
        # a run's name alone is not distinct in a sweep over experiments
        self.shown_from = 3 if len({job.run.directory.parent.parent for job in jobs}) > 1 else 2
        self.live = Live(console=self.console, transient=True, auto_refresh=False)

    def __enter__(self) -> "JobsTable":
        if self.console.is_terminal:
            self.live.start()
        return self

    def refresh(self) -> None:
        if not self.console.is_terminal:
            self._tell_changes()
        elif time.monotonic() - self.drawn > self.EVERY:
            self.live.update(self._table(), refresh=True)
            self.drawn = time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self.live.stop()
        else:
            self._tell_changes()
        self.console.print(self._table())
        for job in self.jobs:
            if job.reason:
                self.console.print(one_line(f"{self._name(job)} {job.status}: {job.reason}", 2000), soft_wrap=True)

    def _name(self, job: ShownJob) -> str:
        return one_line("/".join(job.run.directory.parts[-self.shown_from :]))

    def _tell_changes(self) -> None:
        for job in self.jobs:
            if job.status != self.told.get(self._name(job), "waiting"):
                self.told[self._name(job)] = job.status
                self.console.print(f"{self._name(job)} {job.status} {progress(job)}".rstrip(), soft_wrap=True)

    def _table(self) -> Table:
        table = Table("run", "status", "iteration", "train error %", "val error %", box=None)
        for job in self.jobs:
            if job.status != "waiting" or not self.console.is_terminal:
                table.add_row(self._name(job), job.status, *latest(job))
        waiting = sum(job.status == "waiting" for job in self.jobs)
        if waiting and self.console.is_terminal:
            table.add_row(f"{waiting} more", "waiting")
        return table


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
