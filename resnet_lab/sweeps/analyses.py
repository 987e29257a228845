"""The analyses that a sweep's config names, made when its runs are complete; what is there is skipped."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.errors import CompactHydraException
from hydra.types import RunMode

from resnet_lab import trust
from resnet_lab.checks import UserError
from resnet_lab.config.again import FOLDER, SEARCHPATH, value
from resnet_lab.config.hydra_errors import sentence
from resnet_lab.runs.directory import Run
from resnet_lab.runs.processes import python
from resnet_lab.runs.signals import PARENT, held

LOOK_EVERY = 0.1  # seconds


def check_analyses(loader: ConfigLoader, names: Sequence[str], words: Sequence[str]) -> None:
    """Refuse a name that no folder of configs has.

    Raises:
        UserError: there is one.
    """
    for name in names:
        try:
            places = [word for word in words if word.startswith(SEARCHPATH)]
            loader.load_configuration("analyze", [f"analysis={name}", *places], RunMode.RUN)
        except CompactHydraException as error:
            raise UserError(f"analyses: {sentence(error)}") from error


def analyze(runs: Sequence[Run], name: str, words: Sequence[str], is_stopping: Callable[[], bool]) -> int:
    """Have `resnet-lab-analyze` look into the runs; return its exit code, and tell what it said where it fails."""
    places = [word for word in words if word.startswith((FOLDER, SEARCHPATH))]
    paths = value([str(run.directory) for run in runs])
    command = python("resnet_lab.analyze", *trust.arguments(), f"runs={paths}", f"analysis={name}", *places)
    print(f"analysis {name} of {len(runs)} runs", flush=True)
    with tempfile.TemporaryFile("w+") as said:
        with held():
            environ = {**os.environ, PARENT: str(os.getpid())}
            process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        while process.poll() is None:
            if is_stopping():
                process.terminate()
                process.wait()
            time.sleep(LOOK_EVERY)
        if process.returncode:
            said.seek(0)
            print(said.read(), end="", file=sys.stderr)
        return process.returncode


def asked_for(configs: Sequence[dict[str, Any]]) -> list[str]:
    """The analyses of any of the configs, each once."""
    return list(dict.fromkeys(name for config in configs for name in config["analyses"]))
