"""Data and nets that several tests use: files in a dataset's format, images as an analysis takes them."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def write_cifar10(root: Path, per_file: int = 12) -> None:
    random = np.random.default_rng(0)
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in [f"data_batch_{part}" for part in range(1, 6)] + ["test_batch"]:
        records = random.integers(0, 256, (per_file, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(folder / f"{name}.bin")


def header_of_png(width: int, height: int) -> bytes:
    """A PNG of one colour that says it is so large; its pixels are not there."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b""), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


class Pictures:
    """Images as an analysis takes them from `ImageData`."""

    def __init__(self, images: Tensor, size: int = 8) -> None:
        self.images, self.labels, self.size = images, torch.arange(len(images)) % 10, size
        self.shape, self.in_channels = tuple(images.shape[1:]), images.shape[1]

    def batches(
        self, part: str, size: int | None = None, images: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        taken = slice(0, images)
        return zip(
            self.images[taken].split(size or self.size), self.labels[taken].split(size or self.size), strict=True
        )


def random_pictures(count: int = 20, channels: int = 3, side: int = 8) -> Pictures:
    return Pictures(torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0)))


def trained(net: nn.Module) -> nn.Module:
    """As after a training: batch normalization with statistics, scales and shifts of its own."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return net
