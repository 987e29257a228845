"""The list of runs: how each ended, what was swept, its errors, age and size. Imports no torch."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from resnet_lab.checks import UserError
from resnet_lab.runs.directory import Run
from resnet_lab.runs.find import find_runs, find_set_aside, is_set_aside
from resnet_lab.runs.jobs import trains
from resnet_lab.runs.swept import joined, said, settings, swept, title
from resnet_lab.runs.validity import check_facts
from resnet_lab.text import one_line

SET_ASIDE = "set-aside"
STATUSES = ("running", "completed", "interrupted", "failed", "missing", "unreadable", SET_ASIDE)
ERRORS = ("train_error", "val_error", "test_error")


@dataclass(frozen=True)
class Listed:
    """One run. `bytes` is the size of its files; `time` is when it ended or, if it has not, began (seconds since
    1970; 0 if unknown)."""

    directory: Path
    status: str
    reason: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    bytes: int = 0
    time: float = 0.0
    swept: tuple[str, ...] = ()  # the settings that tell it apart from the other runs of its experiment

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.record.get("config", {})
        return config

    @property
    def experiment(self) -> Path:
        return self.directory.parent.parent

    @property
    def name(self) -> str:
        """`ResNet-20, option A, lr 0.1, seed 0`; the folder's name if there is no record."""
        if not self.config:
            return one_line("/".join(self.directory.parts[-2:]))
        return joined(
            title(self.config), said(self.config, self.swept), f"seed {one_line(self.config.get('seed'))}"
        )

    @property
    def errors(self) -> dict[str, float]:
        """Errors in percent; empty unless the run is complete."""
        complete = self.record.get("status") == "completed" and trains(self.config)
        return {key: self.record[key] for key in ERRORS if complete and key in self.record}

    def facts(self) -> dict[str, Any]:
        """The facts as plain types, for programs."""
        found = settings(self.config) if self.config else {}
        return {
            "directory": str(self.directory),
            "experiment": self.experiment.name,
            "name": self.name,
            "status": self.status,
            "reason": self.reason,
            "seed": self.config.get("seed"),
            "swept": {key: found.get(key) for key in self.swept},
            "errors": self.errors,
            "started": self.record.get("started"),
            "ended": self.record.get("ended"),
            "bytes": self.bytes,
        }


def list_runs(paths: Iterable[Path]) -> list[Listed]:
    """All runs at and under the paths, including planned ones and those set aside.

    Raises:
        UserError: a path does not exist, or a plan is damaged.
    """
    directories: set[Path] = set()
    for path in paths:
        if not path.is_dir():
            raise UserError(f"{path} is not a folder; give one that has runs in it, such as outputs/mine")
        found = find_runs(path.resolve())
        for reason in found.left_out.values():
            raise UserError(reason)
        directories |= found.directories | find_set_aside(path.resolve())
    return with_swept([read(directory) for directory in sorted(directories)])


def with_swept(runs: Sequence[Listed]) -> list[Listed]:
    by_experiment: dict[Path, list[dict[str, Any]]] = {}
    for run in runs:
        by_experiment.setdefault(run.experiment, []).extend([run.config] if run.config else [])
    keys = {experiment: tuple(swept(configs)) for experiment, configs in by_experiment.items()}
    return [Listed(**(vars(run) | {"swept": keys[run.experiment]})) for run in runs]


def read(directory: Path) -> Listed:
    aside = is_set_aside(directory)
    size, run = size_of(directory), Run(directory)
    try:
        record = run.record()
        if record:
            check_facts(record)
        status = SET_ASIDE if aside else run.status()
    except (UserError, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return Listed(directory, SET_ASIDE if aside else "unreadable", one_line(error, 1000), {}, size)
    reason = one_line(record.get("error") or "", 1000)
    return Listed(directory, status, reason, record, size, time_of(record, status))


def time_of(record: dict[str, Any], status: str) -> float:
    keys = ("started",) if status == "running" else ("ended", "started")
    for key in keys:
        try:
            return datetime.fromisoformat(record[key]).timestamp()
        except (LookupError, TypeError, ValueError, OverflowError):
            continue
    return 0.0


def size_of(directory: Path) -> int:
    """The size of its files in bytes; the targets of links are not counted."""
    files = (Path(folder, name) for folder, _, names in os.walk(directory) for name in names)
    return sum(size_of_file(file) for file in files)


def size_of_file(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # a running run replaces its files
        return 0
