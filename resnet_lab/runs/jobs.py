"""The jobs that a run can do. Standard library only.

The module of a job has `perform(run, config)`, which does the job in the run's directory as the frozen config says
and returns facts for the record. It raises UserError for what the user can fix, Interrupted if asked to stop.
"""

from typing import Any, NamedTuple


class Job(NamedTuple):
    module: str
    trains: bool = False  # leaves a curve and weights, to be resumed, evaluated and reported
    about_runtime: bool = False  # measures settings outside a training's identity


JOBS = {
    "train": Job("resnet_lab.training.job", trains=True),
    "throughput": Job("resnet_lab.benchmarks.throughput", about_runtime=True),
    "loading": Job("resnet_lab.benchmarks.loading"),
}
NAMES = f"{', '.join(list(JOBS)[:-1])} or {list(JOBS)[-1]}"


def job_of(config: dict[str, Any]) -> Job | None:
    """The job of a config, training by default; None if it is unknown."""
    name = config.get("job", "train")
    return JOBS.get(name) if isinstance(name, str) else None


def trains(config: dict[str, Any]) -> bool:
    job = job_of(config)
    return job is not None and job.trains
