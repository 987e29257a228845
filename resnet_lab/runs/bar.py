"""A run's progress on a terminal: one line at the bottom, redrawn in place. Standard library only."""

import contextlib
import os
import sys

from resnet_lab.runs.progress import Progress

CLEAR = "\r\x1b[K"  # erases the line; a message that starts with it replaces the bar
WORDS = 72  # characters beside the bar, usually
LEAST, MOST = 8, 40  # characters of the bar itself


class Bar:
    """The bar, on standard error. Whether the terminal still exists does not matter."""

    def show(self, progress: Progress) -> None:
        with contextlib.suppress(OSError):
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            write(CLEAR + line(progress, columns))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            write(CLEAR)


def write(text: str) -> None:
    """Write past Python's own buffer, which would keep what could not be written."""
    os.write(sys.stderr.fileno(), text.encode(sys.stderr.encoding, "replace"))


def line(progress: Progress, columns: int) -> str:
    width = min(MOST, max(LEAST, columns - WORDS))
    done = width * progress.iteration // max(1, progress.iterations)
    drawn = "━" * done + "─" * (width - done)
    return f"{drawn} {progress.iteration}/{progress.iterations} {progress.words()}"[: columns - 1]
