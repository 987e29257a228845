"""The table of jobs: what it names is there, and whoever tells of jobs asks it."""

import importlib
import inspect
from pathlib import Path

import pytest

from resnet_lab.config.compose import CONF
from resnet_lab.runs.jobs import JOBS, job_of, trains


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
