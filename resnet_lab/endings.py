"""The end of every command: one sentence for a user's mistake, a file with the traceback for anything unexpected.

Standard library only.
"""

import contextlib
import os
import select
import sys
import tempfile
import traceback
from collections.abc import Iterator

from resnet_lab.checks import UserError
from resnet_lab.files import no_space
from resnet_lab.text import LONGEST_MESSAGE, one_line, visible


@contextlib.contextmanager
def one_sentence(command: str) -> Iterator[None]:
    """End the process with exit code 1 and one line on the screen, whatever is raised inside.

    A UserError is shown as it is; of everything else the line says where it happened and which file has the
    traceback.
    """
    try:
        yield
    except UserError as error:
        sys.exit(one_line(f"{command}: {error}", LONGEST_MESSAGE))
    except Exception as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            sys.exit(1)
        said = no_space(error, getattr(error, "filename", None)) or unexpected(command, error)
        sys.exit(one_line(f"{command}: {said}", LONGEST_MESSAGE))


def nobody_reads() -> bool:
    """Whether the reader of the standard output has gone, as `head` does; what is left to say is then dropped."""
    looked = select.poll()
    looked.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in looked.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def message_of(command: str, error: Exception) -> str:
    """The message of an error that does not end the command."""
    return str(error) if isinstance(error, UserError) else unexpected(command, error)


def with_place(error: Exception) -> str:
    """Type, message and place of an unforeseen error."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"


def unexpected(command: str, error: Exception) -> str:
    """Type, message and place of the error, and the file that has its traceback, which is written here."""
    told = visible("".join(traceback.format_exception(error)))
    said = with_place(error)
    try:
        with tempfile.NamedTemporaryFile("w", prefix=f"{command}-", suffix=".log", delete=False) as log:
            log.write(told)
    except OSError:  # no space, or no folder for it
        print(told, file=sys.stderr)
        return said
    return f"{said}; the traceback is in {log.name}"
