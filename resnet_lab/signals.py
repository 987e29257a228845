"""Being asked to stop: an exception in place of a sudden end."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

# In the environment of a process: the one that started it and is to see to its end.
PARENT = "RESNET_LAB_PARENT"
# Clusters send one of the last two some time before they end a job.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Interrupted(BaseException):
    """The run was asked to stop, and can go on from its last checkpoint."""


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    """A signal handler for the times when stopping at once harms nothing."""
    handle_signals(signal.SIG_IGN)  # a second one would end what the first one began
    raise Interrupted(f"{signal.Signals(number).name}; the same command goes on")


def handle_signals(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers, except_for: signal.Signals | None = None
) -> None:
    for number in SIGNALS:
        if number != except_for:
            signal.signal(number, handler)


def end_with_parent(number: signal.Signals, parent: int | None = None) -> None:
    """Be sent this signal when the process that started this one dies, even of SIGKILL (Linux)."""
    if sys.platform != "linux":
        return
    pr_set_pdeathsig = 1  # from <sys/prctl.h>
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
    if parent is not None and os.getppid() != parent:  # it died before the call
        os.kill(os.getpid(), number)
