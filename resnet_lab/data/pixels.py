"""Decoded pixels kept on the disk, believed only for the very files and settings that they were decoded from."""

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

SEAL = 32  # bytes, the sha256 that a file of pixels begins with
DECODERS = ("torchcodec", "torchvision", "torch")  # another version may give other pixels


class Source(NamedTuple):
    """Image files under `root` by their names (N,), and how they become pixels.

    `decode` makes an image (C, H, W) uint8 of the shape out of a path and the bytes there; `how` is what else its
    result depends on.
    """

    root: Path
    names: list[str]
    shape: tuple[int, int, int]
    how: str
    decode: Callable[[Path, Any], Tensor]


def load_pixels(source: Source) -> Tensor:
    """(N, C, H, W) uint8, from the cache if that is of these files, else decoded and kept there.

    One process decodes, others that start at the same time wait for it. A cache that cannot be written is told of
    and done without.

    Raises:
        UserError: a file cannot be read or is not what `decode` takes.
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
            pixels, digest = decode_all(source)
            write_cache(place, digest, pixels)
    return pixels


def cache_of(source: Source) -> Path:
    """One file for each folder and way of decoding, so that images that change do not pile up."""
    folder = Path(os.environ.get("RESNET_LAB_DATA") or "~/.cache/resnet_lab").expanduser() / "decoded"
    key = repr((os.path.realpath(source.root), source.shape, source.how))
    return folder / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}.pixels"


def decode_all(source: Source) -> tuple[Tensor, bytes]:
    """The pixels, and the digest of what they were decoded from."""
    pixels = torch.empty(len(source.names), *source.shape, dtype=torch.uint8)

    def keep(number: int, path: Path, content: Any) -> None:
        pixels[number] = source.decode(path, content)

    return pixels, read_all(source, keep)


def read_all(source: Source, use: Callable[[int, Path, Any], None] | None = None) -> bytes:
    """Hand the bytes of each file to `use`; return the digest of names, bytes and way of decoding."""
    versions = [version(name) for name in DECODERS]
    digest = hashlib.sha256(repr((versions, source.shape, source.how)).encode())
    for number, name in enumerate(source.names):
        path = source.root / name
        content = read(path)
        digest.update(
            b"%d %d " % (len(os.fsencode(name)), content.size)
        )  # so that no bytes pass for another name's
        digest.update(os.fsencode(name))
        digest.update(content)
        if use:
            use(number, path, content)
    return digest.digest()


def read(path: Path) -> Any:
    """The bytes of a file, as uint8 of numpy."""
    try:
        with open_regular(path) as file:
            return np.fromfile(file, np.uint8)
    except OSError as error:
        raise UserError(f"{one_line(path)} cannot be read ({error.strerror}); mend or remove it") from error


def seal(digest: bytes, pixels: Tensor) -> bytes:
    whole = hashlib.sha256(digest)
    whole.update(pixels.numpy().data)
    return whole.digest()


def read_cache(place: Path, source: Source) -> Tensor | None:
    """The pixels in the cache, if they are whole and of these files."""
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


def write_cache(place: Path, digest: bytes, pixels: Tensor) -> None:
    """To be called by the process that has the lock."""
    for leftover in place.parent.glob(f".{place.name}.*"):
        leftover.unlink()
    try:
        write_atomically(place, seal(digest, pixels), pixels.numpy().data)
    except OSError as error:
        log.warning("the decoded images cannot be kept in %s (%s)", place, error.strerror)
