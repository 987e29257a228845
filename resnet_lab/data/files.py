"""Downloads and readers of the datasets' files. Errors name the file and the remedy."""

import contextlib
import gzip
import math
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from torchvision.datasets.utils import check_integrity

from resnet_lab.checks import UserError
from resnet_lab.data.batches import Images


def download(name: str, root: Path, folder: str, fetch: Callable[[str], object]) -> None:
    """Download `folder` into root with `fetch(root)`, once, however many processes ask for it.

    The download arrives beside its place and is moved there whole, so that an interrupted one leaves nothing
    that looks complete. A failed one leaves nothing at all, neither the lock nor the folders above it.

    Raises:
        UserError: the download fails.
    """
    made = [path for path in (root, *root.parents) if not path.exists()]
    lock = root / f".{folder}.lock"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if (root / folder).exists():
                return
            try:
                with tempfile.TemporaryDirectory(prefix=f".{folder}-", dir=root) as beside:
                    fetch(beside)
                    os.replace(Path(beside) / folder, root / folder)
            except BaseException:
                lock.unlink(missing_ok=True)  # while held: a waiting process checks that it still exists
                raise
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):  # not empty, if another process uses it
            for path in made:
                path.rmdir()
        raise UserError(
            f"{name} is not in {root} and could not be downloaded ({error}); put its files there, set "
            "data.root to a folder that has them, or use data=digits, which needs no download"
        ) from error


def corrupted(path: Path, what: str) -> UserError:
    return UserError(f"{path} {what}; delete it and run again to download it, or put a good copy there")


def read_idx(folder: Path, name: str, item: tuple[int, ...], most: int) -> Tensor:
    """Read an IDX file (MNIST's format), plain or .gz, into uint8 (N, *item).

    No more is unpacked than the header claims, and a header that claims more than `most` items is refused.

    Raises:
        UserError: the file is missing, corrupted or too large.
    """
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.exists()), None)
    if path is None:
        raise UserError(f"{folder / name} is missing, and so is {name}.gz; put the file there")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            shape = idx_shape(path, file.read(8 + 4 * len(item)), item, most)
            raw = file.read(math.prod(shape) + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise corrupted(path, f"cannot be read ({error})") from error
    if len(raw) != math.prod(shape):
        raise corrupted(path, f"does not hold the number of bytes of its shape {list(shape)}")
    return torch.from_numpy(np.frombuffer(raw, np.uint8).reshape(shape).copy())


def idx_shape(path: Path, header: bytes, item: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Read the shape (N, *item) from the header of an IDX file of bytes.

    Raises:
        UserError: it is another file, or claims more than is allowed.
    """
    dimensions = 1 + len(item)
    shape = tuple(int.from_bytes(header[at : at + 4], "big") for at in range(4, 4 + 4 * dimensions, 4))
    if len(header) < 4 + 4 * dimensions or header[:4] != bytes((0, 0, 8, dimensions)):
        raise corrupted(path, f"is not an IDX file of bytes in {dimensions} dimensions")
    if shape[1:] != item:
        raise corrupted(path, f"has images of {list(shape[1:])} pixels instead of {list(item)}")
    if shape[0] > most:
        raise UserError(
            f"{path} claims to have {shape[0]} items, more than data.max_images={most}, and is not unpacked; "
            "put the right file there, or set data.max_images if it is right"
        )
    return shape


def read_idx_images(folder: Path, prefix: str, size: int, num_classes: int, most: int) -> Images:
    """Read `<prefix>-images-idx3-ubyte` and `<prefix>-labels-idx1-ubyte`, refusing more than `most` images."""
    pixels = read_idx(folder, f"{prefix}-images-idx3-ubyte", (size, size), most)
    labels = read_idx(folder, f"{prefix}-labels-idx1-ubyte", (), most)
    labels_path = folder / f"{prefix}-labels-idx1-ubyte"
    if not len(labels) or len(pixels) != len(labels):
        raise corrupted(labels_path, f"has shape {list(labels.shape)}, the images {list(pixels.shape)}")
    check_labels(labels_path, labels, num_classes)
    return Images(pixels[:, None], labels.long())


def read_cifar_binary(paths: list[Path], label_bytes: int, num_classes: int) -> Images:
    """Read CIFAR's binary version: records of `label_bytes`, the last of them the class, and 3072 pixels.

    Raises:
        UserError: the file is missing or truncated.
    """
    record, pixels, labels = label_bytes + 3072, [], []
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is missing; put the file there, or remove {path.parent} to download all")
        raw = np.fromfile(path, np.uint8)
        if not len(raw) or len(raw) % record:
            raise corrupted(path, f"is truncated: {len(raw)} bytes do not divide into {record}-byte records")
        rows = torch.from_numpy(raw).view(-1, record)
        check_labels(path, rows[:, label_bytes - 1], num_classes)
        labels.append(rows[:, label_bytes - 1].long())
        pixels.append(rows[:, label_bytes:].reshape(-1, 3, 32, 32))
    return Images(torch.cat(pixels), torch.cat(labels))


def check_labels(path: Path, labels: Tensor, num_classes: int) -> None:
    if labels.max() >= num_classes:
        raise corrupted(path, f"has the label {int(labels.max())}, but there are {num_classes} classes")


def check_md5(folder: Path, files: list[list[str]]) -> None:
    """Check each [name, md5] against the file of that name, before anything opens it."""
    for name, md5 in files:
        if not (folder / name).exists():
            raise UserError(f"{folder / name} is missing; remove {folder} to download it again")
        if not check_integrity(str(folder / name), md5):
            raise UserError(
                f"{folder / name} is truncated or corrupted: its MD5 is not {md5}; remove {folder} "
                "to download it again"
            )
