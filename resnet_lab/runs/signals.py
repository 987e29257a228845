"""Requests to stop: held back until something can answer them, and never a sudden end."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

EXIT_INTERRUPTED = 75  # EX_TEMPFAIL: the same command resumes the run
# In a process's environment: the process that started it and must see to its end.
PARENT = "RESNET_LAB_PARENT"
# Clusters send one of the last two some time before they end a job.
SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup: the process must survive the terminal
    SIGNALS.remove(signal.SIGHUP)


class Interrupted(BaseException):
    """The run was asked to stop, and can resume from its last checkpoint."""


def leave(number: int, frame: FrameType | None) -> None:
    """A signal handler for when there is nothing to save."""
    end(EXIT_INTERRUPTED)


def end(code: int) -> NoReturn:
    """End this process without waiting for its loaders or for other processes, which may be gone."""
    os._exit(code)


def handle_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    """Answer requests to stop with `handler`, beginning with those held back."""
    for number in SIGNALS:
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def ignore_signals() -> None:
    """Ignore requests at the end of a process: Python removes handlers last, and a request would kill it."""
    with held():  # a signal between its arrival and its handler must not find the handler gone
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Hold requests back; a process started meanwhile does so, too, until it handles them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent(number: signal.Signals, parent: int | None = None) -> None:
    """Receive this signal when the process that started this one dies, even by SIGKILL (Linux only)."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1  # from <sys/prctl.h>
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, number)
    if parent is not None and os.getppid() != parent:  # it died before the call
        os.kill(os.getpid(), number)
