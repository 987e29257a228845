"""A cache of decoded pixels on the disk, used only for the very files and settings that they were decoded from."""

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from resnet_lab.checks import UserError
from resnet_lab.files import open_plain, open_regular, write_atomically
from resnet_lab.text import one_line

log = logging.getLogger(__name__)

SEAL = 32  # bytes of the sha256 at the start of a cache file
DECODERS = ("torchcodec", "torchvision", "torch")  # other versions may give other pixels


class Source(NamedTuple):
    """Image files under `root` by their names (N,), and how to decode them.

    `decode` turns a path and the bytes there into an image (C, H, W) uint8 of `shape`; `how` identifies the
    settings that its result depends on.
    """

    root: Path
    names: list[str]
    shape: tuple[int, int, int]
    how: str
    decode: Callable[[Path, Any], Tensor]


def load_pixels(source: Source) -> Tensor:
    """Load (N, C, H, W) uint8 from the cache if it matches the files; else decode them and fill the cache.

    One process decodes, others that start at the same time wait for it. Without a writable cache the images are
    decoded each time, with a warning.

    Raises:
        UserError: a file cannot be read, or `decode` refuses it.
    """
    place = cache_of(source)
    with ExitStack() as stack:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open_plain(place.with_suffix(".lock"), "a+"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("the decoded images cannot be kept in %s (%s)", place.parent, error.strerror)
            return decode_all(source)[0]
        pixels = read_cache(place, source)
        if pixels is None:
            log.info("decoding %d images, to be kept in %s", len(source.names), place)
            pixels, checksum = decode_all(source)
            write_cache(place, checksum, pixels)
    return pixels


def cache_of(source: Source) -> Path:
    """The cache file: one per folder and way of decoding, so that images that change do not pile up."""
    folder = Path(os.environ.get("RESNET_LAB_DATA") or "~/.cache/resnet_lab").expanduser() / "decoded"
    key = repr((os.path.realpath(source.root), source.shape, source.how))
    return folder / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}.pixels"


def decode_all(source: Source) -> tuple[Tensor, bytes]:
    """Decode all files; return the pixels, and the checksum of what they were decoded from."""
    pixels = torch.empty(len(source.names), *source.shape, dtype=torch.uint8)

    def keep(number: int, path: Path, content: Any) -> None:
        pixels[number] = source.decode(path, content)

    return pixels, read_all(source, keep)


def read_all(source: Source, use: Callable[[int, Path, Any], None] | None = None) -> bytes:
    """Pass the bytes of each file to `use`; return the checksum of names, bytes and way of decoding."""
    versions = [version(name) for name in DECODERS]
    checksum = hashlib.sha256(repr((versions, source.shape, source.how)).encode())
    for number, name in enumerate(source.names):
        path = source.root / name
        content = read(path)
        # with the lengths, so that no bytes can pass for part of a name
        checksum.update(b"%d %d " % (len(os.fsencode(name)), content.size))
        checksum.update(os.fsencode(name))
        checksum.update(content)
        if use:
            use(number, path, content)
    return checksum.digest()


def read(path: Path) -> Any:
    """Read the bytes of a file into a uint8 array of numpy's.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with open_regular(path) as file:
            return np.fromfile(file, np.uint8)
    except OSError as error:
        raise UserError(f"{one_line(path)} cannot be read ({error.strerror}); repair or remove it") from error


def seal(checksum: bytes, pixels: Tensor) -> bytes:
    whole = hashlib.sha256(checksum)
    whole.update(pixels.numpy().data)
    return whole.digest()


def read_cache(place: Path, source: Source) -> Tensor | None:
    """Read the pixels from the cache; None unless they are whole and of these files."""
    pixels = torch.empty(len(source.names), *source.shape, dtype=torch.uint8)
    try:
        with open_regular(place) as file:
            if os.fstat(file.fileno()).st_size != SEAL + pixels.numel():
                return None
            sealed = file.read(SEAL)
            file.readinto(pixels.numpy().data.cast("B"))
    except OSError:
        return None
    return pixels if seal(read_all(source), pixels) == sealed else None


def write_cache(place: Path, checksum: bytes, pixels: Tensor) -> None:
    """Write the cache; only the process that holds the lock may do so."""
    for leftover in place.parent.glob(f".{place.name}.*"):
        leftover.unlink()
    try:
        write_atomically(place, seal(checksum, pixels), pixels.numpy().data)
    except OSError as error:
        log.warning("the decoded images cannot be kept in %s (%s)", place, error.strerror)
