"""Rows of an analysis that is not finished yet, kept beside a record so that an interrupted one can be resumed.

A file of lines: the first says what the rows are of, each of the others is a row. Standard library only.
"""

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from resnet_lab.checks import UserError
from resnet_lab.files import open_plain

MOST_BYTES = 1 << 24
Row = dict[str, Any]


@contextlib.contextmanager
def unfinished(path: Path, key: Row) -> Iterator[tuple[list[Row], Callable[[Iterable[Row]], list[Row]]]]:
    """Yield the rows already stored for `key`, and a function that stores those to come.

    The function returns all rows; each is in the file before the next is requested. A truncated line, and rows of
    something else, are dropped. The file is removed when the block ends well, or has kept nothing.

    Raises:
        UserError: another process is using it, or something else is in the file's place.
        OSError: it cannot be written.
    """
    with open_plain(path, "a+") as file:
        lock(file, path)
        before = whole_rows(file, key)

        def keep(rows: Iterable[Row]) -> list[Row]:
            every = list(before)
            for row in rows:
                write(file, row)
                every.append(row)
            return every

        try:
            yield before, keep
        except Exception:
            if not rows_in(file):
                path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)


def lock(file: TextIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(f"{path} is in use by another analysis of this run; wait for it or stop it") from error


def whole_rows(file: TextIO, key: Row) -> list[Row]:
    """The rows after a first line that is the key; the file is rewritten with the key and these alone."""
    file.seek(0)
    try:
        lines = file.read(MOST_BYTES).splitlines(keepends=True)
    except ValueError:  # not ours
        lines = []
    rows = []
    if lines and parsed(lines[0]) == key:
        for line in lines[1:]:
            if (row := parsed(line)) is None:
                break
            rows.append(row)
    file.truncate(0)
    for row in (key, *rows):
        write(file, row)
    return rows


def rows_in(file: TextIO) -> int:
    file.seek(0)
    return sum(1 for _ in file) - 1


def write(file: TextIO, row: Row) -> None:
    file.write(f"{json.dumps(row)}\n")
    file.flush()


def parsed(line: str) -> Row | None:
    """The dict in a complete line; None if there is none."""
    try:
        found = json.loads(line) if line.endswith("\n") else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
