"""The analyses that a sweep's config names, run once its runs are complete; existing results are kept."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.errors import CompactHydraException
from hydra.types import RunMode

from resnet_lab import trust
from resnet_lab.checks import UserError
from resnet_lab.config.again import FOLDER, SEARCHPATH, value
from resnet_lab.config.compose import resolved
from resnet_lab.config.hydra_errors import sentence
from resnet_lab.runs.directory import Run
from resnet_lab.runs.processes import python
from resnet_lab.runs.signals import PARENT, held

LOOK_EVERY = 0.1  # seconds


class Asked(NamedTuple):
    """An analysis, and its settings as overrides."""

    name: str
    settings: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        return [f"analysis={self.name}", *self.settings]


def check_analyses(loader: ConfigLoader, asked: Sequence[Asked], words: Sequence[str]) -> None:
    """Refuse an analysis without a config, and settings that it does not take.

    Raises:
        UserError: there is one.
    """
    places = [word for word in words if word.startswith(SEARCHPATH)]
    for one in asked:
        try:
            resolved(loader.load_configuration("analyze", [*one.words, *places], RunMode.RUN), "analyze")
        except CompactHydraException as error:
            raise UserError(f"analyses: {sentence(error)}") from error


def analyze(runs: Sequence[Run], asked: Asked, words: Sequence[str], is_stopping: Callable[[], bool]) -> int:
    """Run `resnet-lab-analyze` on the runs; return its exit code, and print its output if it fails."""
    places = [word for word in words if word.startswith((FOLDER, SEARCHPATH))]
    paths = value([str(run.directory) for run in runs])
    command = python("resnet_lab.analyze", *trust.arguments(), f"runs={paths}", *asked.words, *places)
    print(f"analysis {asked.name} of {len(runs)} runs", flush=True)
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


def asked_for(configs: Sequence[dict[str, Any]]) -> list[Asked]:
    """The analyses that any of the configs asks for, each once."""
    return list(dict.fromkeys(asked for config in configs for asked in asked_in(config)))


def asked_in(config: dict[str, Any]) -> list[Asked]:
    at = () if config["analyze_at"] is None else (f"analysis.at={value(config['analyze_at'])}",)
    entries = [entry if isinstance(entry, dict) else {entry: {}} for entry in config["analyses"]]
    return [
        Asked(name, (*at, *(f"analysis.{key}={value(given)}" for key, given in settings.items())))
        for entry in entries
        for name, settings in entry.items()
    ]
