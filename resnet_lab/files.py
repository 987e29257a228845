"""Files in folders that others may have filled: read within limits, opened through no link."""

import errno
import io
import json
import os
import stat
import zipfile
from io import BufferedReader
from pathlib import Path
from typing import Any, Literal, TextIO

from resnet_lab.checks import UserError

MOST_JSON = 1 << 24  # bytes; a record has a few thousand
FULL = (errno.ENOSPC, errno.EDQUOT)
DEEPEST = 100  # lists and dicts inside each other; a record has less than ten


def read_regular(path: Path, most: int) -> str:
    """The text of a regular file; never waits, and reads no device.

    Raises:
        OSError: it cannot be read.
        UserError: it is not a regular file, or has more than `most` bytes.
        ValueError: it is not UTF-8.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > most or len(content := file.read(most + 1)) > most:
            raise UserError(f"{path} has more than {most} bytes; remove it")
    return content.decode()


def open_regular(path: Path) -> BufferedReader:
    """Open a file to be read; raises as `read_regular`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    check_regular(path, descriptor)
    return open(descriptor, "rb")


def check_not_packed(path: Path, content: bytes) -> None:
    """Refuse content for torch.load that takes far more memory than its own size; torch.save packs nothing.

    Raises:
        UserError: it is a ZIP archive that is damaged, has compressed files, or more in them than its own bytes;
            or it asks for an array of any length.
    """
    packed = b"bytearray" in content  # which torch.load would make of any length
    if zipfile.is_zipfile(io.BytesIO(content)):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                entries = archive.infolist()
        except Exception as error:  # whatever a file that somebody made up leads to
            raise UserError(f"{path} is a damaged ZIP archive ({error!r:.80})") from error
        packed |= any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        packed |= sum(entry.file_size for entry in entries) > len(content)
    if packed:
        raise UserError(
            f"{path} would unpack to more than its own {len(content)} bytes, and is not opened; save "
            "net.state_dict() with torch.save, tensors only"
        )


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        OSError: it cannot be read.
        UserError: it is not a regular file, or too large.
        ValueError: it is not JSON, or nested too deeply to be worked with.
    """
    too_deep = ValueError(f"nested more than {DEEPEST} deep")
    try:
        content = json.loads(read_regular(path, MOST_JSON))
    except RecursionError:
        raise too_deep from None
    level = [content]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in children(value)]
    if level:
        raise too_deep
    return content


def children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def open_plain(path: Path, mode: Literal["r", "a+"]) -> TextIO:
    """Open a file in place, as a lock or to append to it, through no link and without waiting.

    Raises:
        OSError: it cannot be opened.
        UserError: it is a symbolic link, or not a regular file.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT if mode == "a+" else os.O_RDONLY
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise not_plain(path) from error
        raise
    check_regular(path, descriptor)
    return open(descriptor, mode)


def check_regular(path: Path, descriptor: int) -> None:
    """Close the descriptor and raise UserError unless it is of a regular file."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_plain(path)


def check_plain(path: Path) -> None:
    """Raise UserError where there is something else than a regular file."""
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        raise not_plain(path)


def not_plain(path: Path) -> UserError:
    return UserError(f"{path} is not a regular file; remove it")


def write_atomically(path: Path, *content: str | bytes | memoryview, lasting: bool = True) -> None:
    """Put a whole new file at `path`; a link that is there is replaced, and what it leads to is left alone.

    One that is not `lasting` may be lost when the machine fails, and costs no wait for the disk.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)  # or a link that was put there would be followed
    try:
        with beside.open("xb") as file:
            file.writelines(part.encode() if isinstance(part, str) else part for part in content)
            file.flush()
            if lasting:
                sync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def sync(descriptor: int) -> None:
    """Have what was written on the disk, where the filesystem can promise that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def unusable(directory: object, error: OSError) -> UserError:
    """The error for an output folder that cannot be read or written, with the remedy."""
    otherwise = f"{directory} cannot be used ({error}); set output_root to another folder"
    return UserError(no_space(error, directory) or otherwise)


def no_space(error: Exception, where: object) -> str | None:
    """The remedy for a full disk, if that is the error."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return None
    return f"no space left for {where} ({type(error).__name__}: {error}); free some, then repeat the command"
