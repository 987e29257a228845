"""Being asked to stop: an exception in place of a sudden end."""

import signal
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """The run was asked to stop, and can go on from its last checkpoint."""


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    """A signal handler for the times when stopping at once harms nothing."""
    raise Interrupted(f"{signal.Signals(number).name}; the same command goes on")


def handle_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)
