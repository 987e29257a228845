"""A run's progress on a terminal: one line at its bottom, drawn over and over. Standard library only."""

import contextlib
import os
import sys

from resnet_lab.runs.progress import Progress

CLEAR = "\r\x1b[K"  # what takes the line away; a message that starts with it is not written behind the bar
WORDS = 72  # characters beside the bar, in most cases
LEAST, MOST = 8, 40  # characters of the bar itself


class Bar:
    """The bar on the standard error. A terminal that has gone is written to in vain."""

    def show(self, progress: Progress) -> None:
        with contextlib.suppress(OSError):
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            write(CLEAR + line(progress, columns))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            write(CLEAR)


def write(text: str) -> None:
    """Past Python's own buffer, which would keep what could not be written."""
    os.write(sys.stderr.fileno(), text.encode(sys.stderr.encoding, "replace"))


def line(progress: Progress, columns: int) -> str:
    width = min(MOST, max(LEAST, columns - WORDS))
    done = width * progress.iteration // max(1, progress.iterations)
    drawn = "━" * done + "─" * (width - done)
    return f"{drawn} {progress.iteration}/{progress.iterations} {progress.words()}"[: columns - 1]
