"""The table of jobs: what it names is there, and whoever tells of jobs asks it."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resnet_lab.config.compose import CONF
from resnet_lab.runs.directory import Run
from resnet_lab.runs.jobs import JOBS, job_of, trains
from resnet_lab.sweeps.slurm import SlurmJob


@pytest.mark.parametrize("name", JOBS)
def test_the_module_of_a_job_performs_a_run(name: str) -> None:
    perform = importlib.import_module(JOBS[name].module).perform
    assert list(inspect.signature(perform).parameters) == ["run", "config"]


def test_what_is_known_of_a_config() -> None:
    assert [name for name in JOBS if trains({"job": name})] == ["train"]
    assert trains({})
    assert job_of({"job": "dance"}) is None
    assert not trains({"job": ["train"]})


def test_the_config_file_names_all_jobs() -> None:
    (line,) = [line for line in Path(CONF, "train.yaml").read_text().splitlines() if line.startswith("job:")]
    assert all(name in line for name in JOBS)


def test_a_job_that_slurm_never_ran_is_not_told_by_the_record_of_before(
    tiny: Callable[..., tuple[Run, dict[str, Any]]],
) -> None:
    run, config = tiny()
    for before, state, status in (
        ("completed", "CANCELLED", "interrupted"),
        ("completed", "NODE_FAIL", "failed"),
        ("failed", "CANCELLED", "interrupted"),
    ):
        run.update(status=before, seconds=1.0)
        job = SlurmJob(config | {"force": True})
        job.submission = SimpleNamespace(paths=SimpleNamespace(stderr="log"))
        job.note(state)
        assert job.status == status
        run.update(status="completed", seconds=2.0)
        job.note("COMPLETED")
        assert job.status == "completed"
