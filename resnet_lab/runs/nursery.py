"""Processes that need not import torch again: forked from one that has, but has touched no thread or device.

`python -m resnet_lab.runs.nursery MODULE...` imports the modules, then forks a process for each request that
arrives on its standard input, a socket: the name of a module whose `main` is called, as after `python -m`.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from resnet_lab.runs.processes import python
from resnet_lab.runs.signals import PARENT, end_with_parent, held

LOOK_EVERY = 0.02  # seconds


def fork(call: Callable[[], object]) -> int:
    """Fork a process that calls this and ends; return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    with held():  # until it has handlers of its own
        if pid := os.fork():
            return pid
        leave(call)


def leave(call: Callable[[], object]) -> NoReturn:
    """Make the call, then end this process with the exit code that Python would give it."""
    code: Any = 1
    try:
        call()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def run_main(module: str, arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Do what `python -m MODULE ARGUMENTS` does in a process with this environment."""
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()


class Forked:
    """A process that this one has forked, used as a `subprocess.Popen`."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.returncode: int | None = None
        self.pid = fork(call)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Requested:
    """A process that a nursery has forked for this one, used as a `subprocess.Popen`."""

    def __init__(self, told: int) -> None:
        self.returncode: int | None = None
        self.told = told
        self._close = weakref.finalize(self, os.close, told)
        self.pid = int(read_line(told) or 0)
        os.set_blocking(told, False)

    def poll(self) -> int | None:
        if self.returncode is None:
            with contextlib.suppress(BlockingIOError):
                code = os.read(self.told, 16)
                self._close()
                # no code: the nursery was killed, and the process with it
                self.returncode = int(code or -signal.SIGKILL)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + timeout if timeout is not None else float("inf")
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(LOOK_EVERY)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None and self.pid:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def read_line(file: int) -> bytes:
    """Read the bytes up to the first line break or the end of the file, and not one byte more."""
    line = b""
    while (byte := os.read(file, 1)) not in (b"\n", b""):
        line += byte
    return line


class Nursery:
    """The process that has imported torch, seen from the one that wants others forked from it.

    Args:
        modules: those to import.
        environ: its environment, which must include what C libraries read only once.
    """

    def __init__(self, modules: Sequence[str], environ: Mapping[str, str]) -> None:
        self.environ = dict(environ)
        self.socket, its = socket.socketpair()
        with its, held():
            self.process = subprocess.Popen(
                python("resnet_lab.runs.nursery", *modules),
                stdin=its.fileno(),
                env=self.environ | {PARENT: str(os.getpid())},
                stderr=subprocess.DEVNULL,
            )
        self.ready = False

    def is_ready(self) -> bool:
        """Whether it has imported everything, or is gone."""
        if not self.ready and select.select([self.socket], [], [], 0)[0]:
            self.ready = True
            self.socket.recv(1)
        return self.ready

    def start(
        self, module: str, arguments: Sequence[str], environ: Mapping[str, str], files: Sequence[int]
    ) -> Requested:
        """Have a process forked, with these as its standard input, output and error.

        Raises:
            OSError: the nursery is gone.
        """
        request = json.dumps({"module": module, "arguments": list(arguments), "environ": dict(environ)}).encode()
        ours, its = os.pipe()
        try:
            socket.send_fds(self.socket, [len(request).to_bytes(4, "big")], [*files, its])
            self.socket.sendall(request)
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(its)
        return Requested(ours)

    def end(self) -> None:
        """End it, without waiting for the processes that it has forked, which end with it."""
        self.socket.close()
        self.process.wait()


def main() -> None:
    for module in sys.argv[1:]:
        importlib.import_module(module)
    end_with_parent(signal.SIGKILL, int(os.environ[PARENT]))
    requests = socket.socket(fileno=os.dup(0))
    requests.sendall(b"!")
    children: dict[int, int] = {}  # process id to the pipe that reports its end
    while True:
        if select.select([requests], [], [], LOOK_EVERY)[0] and not serve(requests, children):
            os._exit(0)  # at once: taking down all that it has imported takes a second
        tell_ends(children)


def serve(requests: socket.socket, children: dict[int, int]) -> bool:
    """Fork the next process requested; return False once nobody is left to make requests."""
    size, files, _, _ = socket.recv_fds(requests, 4, 4)
    if len(size) < 4:
        return False
    request = b""
    while missing := int.from_bytes(size, "big") - len(request):
        request += requests.recv(missing)
    asked = json.loads(request)

    def begin() -> None:
        requests.close()
        for number, file in enumerate(files[:3]):
            os.dup2(file, number)
        for file in [*files, *children.values()]:
            os.close(file)
        run_main(asked["module"], asked["arguments"], asked["environ"] | {PARENT: str(os.getppid())})

    *given, told = files
    pid = fork(begin)
    for file in given:
        os.close(file)
    os.write(told, f"{pid}\n".encode())
    children[pid] = told
    return True


def tell_ends(children: dict[int, int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        with contextlib.suppress(OSError):  # nobody is listening any more
            os.write(children[pid], str(os.waitstatus_to_exitcode(status)).encode())
        os.close(children.pop(pid))


if __name__ == "__main__":
    main()
