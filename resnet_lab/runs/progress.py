"""Progress of a run while it trains, in words and as a file that a sweep's table reads. Standard library only."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from resnet_lab.checks import UserError
from resnet_lab.files import read_json, write_atomically
from resnet_lab.text import duration

UNKNOWN = "—"
MOST = 1e15  # limit of the numbers in the file


class Progress(NamedTuple):
    """Errors are in percent, the training error since the last evaluation and the validation error at it; None is
    not known yet. `doing` names any activity other than training: `validating 40 %`."""

    iteration: int
    iterations: int
    train_error: float | None = None
    val_error: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    doing: str = ""

    def words(self) -> str:
        errors = f"train error {rounded(self.train_error, 2)} %, val {rounded(self.val_error, 2)} %"
        doing = self.doing or f"{self.speed()} images/s"
        # the time after the last iteration is not predicted
        return f"{errors}, {doing}" + (f", {self.left()} left" if self.iteration < self.iterations else "")

    def speed(self) -> str:
        return rounded(self.images_per_second, 0)

    def left(self) -> str:
        return time_left(self.seconds_left)


def rounded(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def time_left(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else duration(seconds)


class Display(Protocol):
    """Where progress is shown."""

    def show(self, progress: Progress) -> None: ...

    def close(self) -> None: ...


class ProgressFile:
    """A file that exists only while the run trains. Failing to write it costs the display and nothing else."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def show(self, progress: Progress) -> None:
        numbers = {name: value for name, value in progress._asdict().items() if name != "doing"}
        with contextlib.suppress(OSError):
            write_atomically(self.path, json.dumps(numbers), lasting=False)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def read_progress(path: Path) -> Progress | None:
    """Read the file; None if it is missing or was not written by a run."""
    try:
        found = read_json(path)
        numbers = {name: found[name] for name in Progress._fields if name != "doing"}
        return Progress(**numbers) if all(map(is_number_or_none, numbers.values())) else None
    except (OSError, UserError, ValueError, TypeError, LookupError):
        return None


def is_number_or_none(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and 0 <= value < MOST and not math.isnan(value))
