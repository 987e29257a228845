"""A sweep on a real SLURM cluster of one node (tests/slurm.sh)."""

import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, TINY
from runs import curve, start, wait_for_rows

from resnet_lab.runs.directory import Run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("slurmctld") is None or importlib.util.find_spec("submitit") is None or os.getuid() != 0,
        reason="needs slurmctld, slurmd, munge, root and resnet-lab[slurm]",
    ),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("slurm")
    script = ROOT / "tests/slurm.sh"
    subprocess.run([script, "start", folder], check=True)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield
    del os.environ["SLURM_CONF"]
    subprocess.run([script, "stop", folder], check=True)


def queue() -> dict[str, str]:
    """Job to state."""
    listed = subprocess.run(["squeue", "-h", "-r", "-o", "%i %T"], capture_output=True, text=True, check=True)
    return dict(line.split() for line in listed.stdout.splitlines())


@pytest.mark.usefixtures("cluster")
def test_a_sweep_with_two_processes_and_a_preemption_ends_complete(tmp_path: Path) -> None:
    """Four runs, two of them of two tasks each; one of one task and one of two are sent SIGTERM on the way."""
    sweep = (
        *("hydra.mode=MULTIRUN", "hydra/launcher=slurm", "seed=0,1", "iterations=450", "data.crop_padding=2"),
        *("trainer=ddp_cpu", "trainer.devices=1,2", "experiment_name=on-${trainer.devices}"),
    )
    launcher = start(tmp_path, *sweep)
    for processes in (1, 2):
        run = wait_for_rows(tmp_path, 2, f"outputs/on-{processes}/*/seed0")
        (job,) = (job for job, state in queue().items() if state == "RUNNING" and job.endswith("_0"))
        subprocess.run(["scancel", "--signal=TERM", job], check=True)
        wait_for_state(job, "PENDING")
        assert run.status() == "interrupted"
        assert 0 < len(run.metrics()) < 150
        # SLURM would wait for two minutes; a node refuses a job that is back within a second or two
        subprocess.run(["scontrol", "update", f"jobid={job}", "StartTime=now+5"], check=True)
    assert launcher.wait() == 0
    runs = [Run(path.parent) for path in sorted(tmp_path.glob("outputs/on-*/*/seed*/record.json"))]
    assert [run.status() for run in runs] == ["completed"] * 4
    assert [run.record()["processes"] for run in runs] == [1, 1, 2, 2]
    assert {len(run.metrics()) for run in runs} == {150}
    assert queue() == {}
    # the same run, never stopped, without a cluster
    alone = start(tmp_path, *sweep[3:5], "trainer=ddp_cpu", "trainer.devices=2", "experiment_name=alone")
    assert alone.wait() == 0
    whole = Run(next(tmp_path.glob("outputs/alone/*/seed0")))
    assert curve(whole) == curve(Run(next(tmp_path.glob("outputs/on-2/*/seed0"))))


@pytest.mark.usefixtures("cluster")
def test_a_stopped_sweep_leaves_no_job_and_the_same_command_goes_on(tmp_path: Path) -> None:
    sweep = ("hydra.mode=MULTIRUN", "hydra/launcher=slurm", "seed=0,1,2", "iterations=900")
    launcher = start(tmp_path, *sweep)
    wait_for_rows(tmp_path, 2)
    launcher.terminate()
    assert launcher.wait() == 75
    deadline = time.monotonic() + 60
    while queue() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert queue() == {}
    assert start(tmp_path, *sweep).wait() == 0


@pytest.mark.usefixtures("cluster")
def test_a_job_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    sweep = ("hydra.mode=MULTIRUN", "hydra/launcher=slurm", "data.crop_padding=0,9")
    ended = subprocess.run(
        ["resnet-lab", *TINY, *sweep], cwd=tmp_path, capture_output=True, text=True, env=os.environ
    )
    assert ended.returncode == 1
    assert "data.crop_padding must not exceed the image size 8, got 9" in ended.stdout
    statuses = [Run(path.parent).status() for path in tmp_path.glob("outputs/*/*/seed0/record.json")]
    assert sorted(statuses) == ["completed", "failed"]


def wait_for_state(job: str, state: str) -> None:
    deadline = time.monotonic() + 60
    while queue().get(job) != state:
        assert time.monotonic() < deadline, f"{job} is {queue().get(job)}, not {state}"
        time.sleep(0.2)
