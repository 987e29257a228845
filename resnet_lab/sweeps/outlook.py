"""Progress of a sweep's jobs between their evaluations, and the time until all are done."""

from collections.abc import Sequence
from typing import Any, Protocol

from resnet_lab.runs.directory import Run
from resnet_lab.runs.jobs import trains
from resnet_lab.runs.progress import Progress, read_progress

ACTIVE = ("running", "stopping")
AHEAD = ("waiting", "in use", *ACTIVE)


class WatchedJob(Protocol):
    """The attributes of a job that are needed here."""

    run: Run
    config: dict[str, Any]
    status: str


class Outlook:
    """The state of the jobs by their own files, as of the last `look`."""

    def __init__(self, jobs: Sequence[WatchedJob]) -> None:
        self.jobs = [job for job in jobs if trains(job.config)]
        self.of: dict[str, Progress] = {}  # by run directory
        self.costs: dict[str, float] = {}  # seconds per iteration, as each job said last

    def look(self) -> None:
        self.of = {}
        for job in self.jobs:
            if job.status in ACTIVE and (progress := read_progress(job.run.progress_path)):
                self.of[job.config["run_dir"]] = progress
                ahead = progress.iterations - progress.iteration
                if ahead > 0 and progress.seconds_left:
                    self.costs[job.config["run_dir"]] = progress.seconds_left / ahead

    def seconds_left(self) -> float | None:
        """Seconds until all jobs have ended, with as many at a time as now; None while nobody knows.

        A job that has not begun is assumed to cost as much per iteration as the others.
        """
        ahead = [self._seconds_of(job) for job in self.jobs if job.status in AHEAD]
        if not ahead:
            return 0.0
        active = sum(job.status in ACTIVE for job in self.jobs)
        known = [seconds for seconds in ahead if seconds is not None]
        if not active or len(known) < len(ahead):
            return None
        return max(sum(known) / active, *known)

    def _seconds_of(self, job: WatchedJob) -> float | None:
        said = self.of.get(job.config["run_dir"])
        if said and said.seconds_left is not None:
            return said.seconds_left
        if not self.costs:
            return None
        iterations: int = job.config["iterations"]
        return iterations * sum(self.costs.values()) / len(self.costs)
