"""A command of ours in a process that was forked from one that has imported torch, as fresh as that can be."""

import importlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NoReturn

from resnet_lab.runs.nursery import Forked, Nursery, Requested, leave, run_main
from resnet_lab.runs.signals import PARENT, SIGNALS
from resnet_lab.sweeps import job_process

TESTS = Path(__file__).parent
# The processes that the tests have started, so that one that fails leaves none of them running.
STARTED: list[subprocess.Popen[bytes] | Requested] = []
IMPORTED = (
    "train",
    "analyze",
    "eval",
    "export",
    "info",
    "report",
    "sweeps.command",
    "runs.supervisor",
    "runs.worker",
)
MODULES = [
    *(f"resnet_lab.{name}" for name in IMPORTED),
    *("resnet_lab.training.job", "resnet_lab.weights.files", "warm"),
]


def main() -> None:
    """`forked.main()` with FOLDER, `session` or not, MODULE and ARGUMENTS on the command line."""
    folder, session, module, *arguments = sys.argv[1:]
    os.chdir(folder)
    if session == "session":
        os.setsid()
    del os.environ[PARENT]
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [path for path in given if path and path not in sys.path]
    found = importlib.import_module(module)
    sys.argv = [str(found.__file__), *arguments]
    os.execve = become
    job_process.Nursery = Itself
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    found.main()


class Itself:
    """A forked launcher's nursery: no other is needed."""

    def __init__(self, modules: Sequence[str], environ: Mapping[str, str]) -> None:
        self.environ = environ

    def is_ready(self) -> bool:
        return True

    def start(
        self, module: str, arguments: Sequence[str], environ: Mapping[str, str], files: Sequence[int]
    ) -> Forked:
        def begin() -> None:
            for number, file in enumerate(files):
                os.dup2(file, number)
            become("", ["", "", "", module, *arguments], {**environ, PARENT: str(os.getppid())})

        return Forked(begin)

    def end(self) -> None:
        pass


def become(_: str, command: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Go on as another command, in place of what would start Python once more."""
    for logger in logging.root.manager.loggerDict.values():  # Hydra has switched them off
        if isinstance(logger, logging.Logger):
            logger.disabled = False
    logging.root.handlers.clear()
    _, _, _, module, *arguments = command
    leave(lambda: run_main(module, arguments, environ))


@cache
def nursery() -> Nursery:
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return Nursery(["forked", *MODULES], os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})


def begin(
    folder: Path, module: str, *arguments: str, environ: Mapping[str, str], session: bool, stdout: int, stderr: int
) -> Requested:
    with open(os.devnull) as nothing:
        words = [str(folder), "session" if session else "", module, *arguments]
        STARTED.append(started := nursery().start("forked", words, environ, [nothing.fileno(), stdout, stderr]))
        return started


def kill_all_but(first: int) -> None:
    """Kill what was started after the first so many processes, and forget it."""
    started, STARTED[first:] = STARTED[first:], []
    running = [process for process in started if process.poll() is None]
    for process in running:
        process.send_signal(signal.SIGKILL)
    for process in running:
        process.wait(30)


def run(
    folder: Path, module: str, *arguments: str, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run` with captured output would give."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        files = {"stdout": out.fileno(), "stderr": err.fileno()}
        code = begin(folder, module, *arguments, environ=environ, session=False, **files).wait()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([module, *arguments], code, out.read(), err.read())
