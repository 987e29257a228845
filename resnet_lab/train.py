"""`resnet-lab`: compose a config and run it, in a process of its own; with a sweep, many of them."""

import os
import subprocess
import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from resnet_lab.checks import UserError
from resnet_lab.compose import CONF, command, environment, follow, freeze, prepare, register_resolvers
from resnet_lab.launch import register_launchers
from resnet_lab.processes import rank
from resnet_lab.signals import PARENT


@hydra.main(version_base="1.3", config_path=CONF, config_name="train")
def _task(cfg: DictConfig) -> float | None:
    try:
        config = freeze(cfg)
        run = prepare(config) if rank() == 0 else follow(config)
    except UserError as error:
        sys.exit(f"resnet-lab: {error}")
    if run is None:
        return None
    if HydraConfig.get().mode == RunMode.RUN:
        # this process becomes the run: its signals and its exit code are the run's own
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, command(run, config), environment(config))
    code = subprocess.run(command(run, config), env=environment(config) | {PARENT: str(os.getpid())}).returncode
    if code:
        raise RuntimeError(f"{run.directory} ended with exit code {code}; see {run.log_path}")
    return None


def main() -> None:
    register_resolvers()
    register_launchers()
    _task()


if __name__ == "__main__":
    main()
