"""Being asked to stop: an exception in place of a sudden end."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

# In the environment of a sweep's job: the process that is to see to its end.
PARENT = "RESNET_LAB_PARENT"
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(BaseException):
    """The run was asked to stop, and can go on from its last checkpoint."""


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    """A signal handler for the times when stopping at once harms nothing."""
    raise Interrupted(f"{signal.Signals(number).name}; the same command goes on")


def handle_signals(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


def stop_with_parent() -> None:
    """Be sent SIGTERM when the sweep that started this process dies, even of SIGKILL (Linux)."""
    parent = os.environ.get(PARENT)
    if parent is None or sys.platform != "linux":
        return
    pr_set_pdeathsig = 1  # from <sys/prctl.h>
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before the call
        os.kill(os.getpid(), signal.SIGTERM)
