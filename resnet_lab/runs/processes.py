"""Processes of a run: their number, who starts them, and which of them this is. Standard library only."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from resnet_lab.checks import UserError

SCRATCH = "RESNET_LAB_SCRATCH"  # in the environment of a worker: the folder for its temporary files
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

NO_GPU = "trainer.accelerator={} needs a GPU, and this machine shows none; take trainer=cpu"
# What the drivers of NVIDIA, AMD and Windows' Linux make on a machine with a GPU.
DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class Place(NamedTuple):
    """A process's place among those that another program started."""

    starter: str
    rank: int
    processes: int


def started_outside(environ: Mapping[str, str] = os.environ) -> Place | None:
    """The place that torchrun or srun gave to this process; None where the lab starts the processes itself."""
    if "TORCHELASTIC_RUN_ID" in environ:
        return Place("torchrun", int(environ["RANK"]), int(environ["WORLD_SIZE"]))
    if int(environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in environ:
        return Place("srun", int(environ["SLURM_PROCID"]), int(environ["SLURM_STEP_NUM_TASKS"]))
    return None


def rank(environ: Mapping[str, str] = os.environ) -> int:
    """Which of the run's processes this is; 0 writes everything."""
    outside = started_outside(environ)
    return outside.rank if outside else int(environ.get("LOCAL_RANK", 0))


def devices(trainer: Mapping[str, Any]) -> int:
    """Number of devices on one machine, one process each, as the Trainer's settings ask; found without torch."""
    asked = trainer.get("devices", "auto")
    if isinstance(asked, (list, tuple)):
        return len(asked)
    if isinstance(asked, int) and asked > 0:
        return asked
    return 1 if trainer.get("accelerator") == "cpu" else max(1, len(visible_gpus()))


def python(module: str, *arguments: str) -> list[str]:
    """The command line of a process of the lab, which looks for no module in the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def check_place(trainer: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a run of several processes where these cannot be had.

    Raises:
        UserError: it wants other processes than it was given, or several machines of a launcher for one.
    """
    wanted = devices(trainer) * int(trainer.get("num_nodes", 1))
    outside = started_outside(environ)
    if outside and outside.processes != wanted:
        raise UserError(
            f"trainer.devices x trainer.num_nodes is {wanted}, but {outside.starter} started {outside.processes} "
            "processes; make them equal"
        )
    if not outside and int(trainer.get("num_nodes", 1)) > 1:
        raise UserError(
            f"trainer.num_nodes={trainer['num_nodes']} needs a launcher for several machines: "
            "hydra/launcher=slurm, or torchrun on each of them"
        )


def lacks_gpu(trainer: Mapping[str, Any]) -> bool:
    """Whether the Trainer's settings ask for a GPU where there is surely none."""
    if trainer.get("accelerator") not in ("gpu", "cuda") or visible_gpus():
        return False
    hidden = "CUDA_VISIBLE_DEVICES" in os.environ
    return hidden or (sys.platform == "linux" and not any(map(os.path.exists, DRIVERS)))


def visible_gpus() -> list[str]:
    """The GPUs that this process may use."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu for gpu in named.split(",") if gpu not in ("", "-1")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True).stdout
    gpus = [line for line in listed.splitlines() if line.startswith("GPU ")]  # and not their MIG slices
    return [str(number) for number, _ in enumerate(gpus)]


def environments(trainer: Mapping[str, Any]) -> list[dict[str, str]]:
    """Additions to the environment of each process that the lab starts itself."""
    count = 1 if started_outside() else devices(trainer)
    if count == 1:
        return [{}]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(count)}
    return [meeting | {"NODE_RANK": "0", "LOCAL_RANK": str(number)} for number in range(count)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
