"""The processes of a sweep's jobs on this machine: forked from one that has imported torch, or fresh ones."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from resnet_lab.runs.directory import Run
from resnet_lab.runs.jobs import JOBS, trains
from resnet_lab.runs.nursery import Nursery, Requested
from resnet_lab.runs.signals import PARENT, held
from resnet_lab.runs.start import SUPERVISOR, TUNABLES, arguments, command, environment
from resnet_lab.runs.supervisor import WORKER


class Starter:
    """Start the processes, and import torch once for all of them.

    Args:
        configs: those of the jobs.
        extra: what the pool adds to the environment of each.
    """

    def __init__(self, configs: Sequence[dict[str, Any]], extra: dict[str, str]) -> None:
        self.extra = extra
        self.nursery: Nursery | None = None
        if len([config for config in configs if can_be_forked(config)]) > 1:
            environ = environment(configs[0]) | extra
            self.nursery = Nursery([WORKER, JOBS["train"].module], environ)

    def is_ready(self) -> bool:
        return self.nursery is None or self.nursery.is_ready()

    def start(
        self, run: Run, config: dict[str, Any], extra: dict[str, str], log: TextIO
    ) -> subprocess.Popen[bytes] | Requested:
        """Start the run's own process, with its output going to the log."""
        environ = environment(config) | extra
        return self._fork(run, config, environ, log) or fresh(run, config, environ, log)

    def _fork(self, run: Run, config: dict[str, Any], environ: dict[str, str], log: TextIO) -> Requested | None:
        if self.nursery is None or not can_be_forked(config):
            return None
        if environ.get(TUNABLES) != self.nursery.environ.get(TUNABLES):
            return None
        try:
            with open(os.devnull) as nothing:
                files = [nothing.fileno(), log.fileno(), log.fileno()]
                return self.nursery.start(SUPERVISOR, arguments(run, config), environ, files)
        except OSError:  # the nursery is gone; a fresh process fails as it did, and says why
            return None

    def end(self) -> None:
        if self.nursery:
            self.nursery.end()


def fresh(run: Run, config: dict[str, Any], environ: Mapping[str, str], log: TextIO) -> subprocess.Popen[bytes]:
    with held():
        return subprocess.Popen(
            command(run, config),
            env={**environ, PARENT: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def can_be_forked(config: dict[str, Any]) -> bool:
    """Whether it trains on a CPU: GPUs do not survive a fork, and speed is measured in fresh processes."""
    on_cpu: bool = config["trainer"].get("accelerator") == "cpu"
    return trains(config) and on_cpu and sys.platform == "linux"
