"""Compose a config and run it in a process of its own; a sweep has many of them."""

import os
import subprocess
import sys
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from resnet_lab.checks import UserError
from resnet_lab.config.again import typed
from resnet_lab.config.command_line import run_hydra
from resnet_lab.config.compose import freeze
from resnet_lab.runs.directory import Run
from resnet_lab.runs.processes import rank
from resnet_lab.runs.signals import PARENT, held
from resnet_lab.runs.start import command, environment, prepare, wait_for_first_process
from resnet_lab.sweeps.beginning import check_start
from resnet_lab.sweeps.launcher import register_launchers


def _task(cfg: DictConfig) -> float | None:
    config = freeze(cfg)
    if config["analyses"]:  # our own launchers, which run them, do not come here
        raise UserError(
            "analyses belong to a sweep with hydra/launcher=pool or slurm: add -m, or set analyses=[] and call "
            "resnet-lab-analyze once the run is complete"
        )
    if not rank():
        check_start(config)
    run = wait_for_first_process(config) if rank() else None
    with held():  # once the record is begun, the run itself answers for its end
        run = run if rank() else prepare(config, typed())
        process = begin(run, config) if run else None
    if run and process and (code := process.wait()):
        raise UserError(f"{run.directory} ended with exit code {code}; see {run.log_path}")
    return None


def begin(run: Run, config: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Replace this process with the run, which keeps signals and exit code; in others' sweeps, start it."""
    if HydraConfig.get().mode == RunMode.RUN:
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, command(run, config), environment(config))
    return subprocess.Popen(command(run, config), env=environment(config) | {PARENT: str(os.getpid())})


def compose_and_run() -> None:
    register_launchers()
    run_hydra(_task, "train")
