"""A function called on several things at once, each in a forked process. Standard library only."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from resnet_lab.checks import UserError
from resnet_lab.runs.signals import end_with_parent, handle_signals, leave

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(
    function: Callable[[Item], Result], items: Sequence[Item], processes: int, begin: Callable[[], None]
) -> list[Result]:
    """Call the function on each item and return the results in order; `begin` is called once in each process.

    To be called before this process has started a thread. The processes end with this one, however it ends.

    Raises:
        UserError: one of the processes was killed.
    """
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, fork, follow, (os.getpid(), begin)) as pool:
        try:
            return list(pool.map(function, items))
        except BrokenProcessPool as error:
            raise UserError("one of the processes was killed, perhaps for lack of memory; try jobs=1") from error


def follow(parent: int, begin: Callable[[], None]) -> None:
    handle_signals(leave)
    end_with_parent(signal.SIGTERM, parent)
    begin()
