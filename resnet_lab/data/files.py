"""Reading and downloading the files of the datasets. Errors name the file and the remedy."""

import gzip
import math
import os
import tempfile
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
    """Have `fetch(root)` put `folder` under root, once, however many processes ask for it.

    The download goes beside its place and moves there whole, so that an interrupted one leaves nothing
    that looks complete.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{folder}.lock"):
            if (root / folder).exists():
                return
            with tempfile.TemporaryDirectory(prefix=f".{folder}-", dir=root) as beside:
                fetch(beside)
                os.replace(Path(beside) / folder, root / folder)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{name} is not in {root} and could not be downloaded ({error}); put its files there, set "
            "data.root to a folder that has them, or take data=digits, which needs no download"
        ) from error


def corrupted(path: Path, what: str) -> UserError:
    return UserError(f"{path} {what}; delete it and run again to download it, or put a good copy there")


def read_idx(folder: Path, name: str) -> Tensor:
    """The uint8 array of one IDX file (MNIST's format), plain or as .gz."""
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.exists()), None)
    if path is None:
        raise UserError(f"{folder / name} is missing (looked for it with .gz, too); put the file there")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise corrupted(path, f"cannot be decompressed ({error})") from error
    dimensions = raw[3] if len(raw) > 3 and raw[:3] == b"\x00\x00\x08" else 0
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(raw[at : at + 4], "big") for at in range(4, start, 4)]
    if not dimensions or len(raw) - start != math.prod(shape):
        raise corrupted(path, f"is no whole IDX file of bytes: {len(raw)} bytes, shape {shape}")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy())


def read_idx_images(folder: Path, prefix: str, num_classes: int) -> Images:
    """The images and labels of `<prefix>-images-idx3-ubyte` and `<prefix>-labels-idx1-ubyte`."""
    pixels = read_idx(folder, f"{prefix}-images-idx3-ubyte")
    labels = read_idx(folder, f"{prefix}-labels-idx1-ubyte")
    labels_path = folder / f"{prefix}-labels-idx1-ubyte"
    if not len(labels) or pixels.ndim != 3 or labels.ndim != 1 or len(pixels) != len(labels):
        raise corrupted(labels_path, f"has shape {list(labels.shape)}, the images {list(pixels.shape)}")
    check_labels(labels_path, labels, num_classes)
    return Images(pixels[:, None], labels.long())


def read_cifar_binary(paths: list[Path], label_bytes: int, num_classes: int) -> Images:
    """CIFAR's binary version: records of `label_bytes` (the last is the class) and 3072 pixels."""
    record, pixels, labels = label_bytes + 3072, [], []
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is missing; put the file there, or remove {path.parent} to download all")
        raw = np.fromfile(path, np.uint8)
        if not len(raw) or len(raw) % record:
            raise corrupted(path, f"is truncated: {len(raw)} bytes are no whole number of {record}-byte records")
        rows = torch.from_numpy(raw).view(-1, record)
        check_labels(path, rows[:, label_bytes - 1], num_classes)
        labels.append(rows[:, label_bytes - 1].long())
        pixels.append(rows[:, label_bytes:].reshape(-1, 3, 32, 32))
    return Images(torch.cat(pixels), torch.cat(labels))


def check_labels(path: Path, labels: Tensor, num_classes: int) -> None:
    if labels.max() >= num_classes:
        raise corrupted(path, f"has the label {int(labels.max())}, but there are {num_classes} classes")


def check_md5(folder: Path, files: list[list[str]]) -> None:
    """Hold each [name, md5] against the file of that name, before anything opens it."""
    for name, md5 in files:
        if not (folder / name).exists():
            raise UserError(f"{folder / name} is missing; remove {folder} to download it again")
        if not check_integrity(str(folder / name), md5):
            raise UserError(
                f"{folder / name} is truncated or corrupted: its MD5 is not {md5}; remove {folder} "
                "to download it again"
            )
