"""Which images make up which batch, for every epoch and process, without any shared random state."""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from resnet_lab.checks import UserError


class Images(NamedTuple):
    """A dataset in memory: pixels (N, C, H, W) uint8 and labels (N,) int64."""

    pixels: Tensor
    labels: Tensor


class Batch(NamedTuple):
    """One process's part of a global batch.

    `images` is (n, C, H, W), uint8 from the loader and float32 once it is on the device; `indices` say
    which images of the dataset these are. `weight` is what the mean loss over these images has to be
    multiplied by for the mean over processes to be the mean over the global batch.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    epoch: int
    weight: float


class Request(NamedTuple):
    """What a sampler asks of the dataset: the batch of these images, in this epoch."""

    indices: Tensor
    epoch: int
    weight: float


class BatchedImages(Dataset[Batch]):
    """Looks up whole batches, so that nothing is done image by image."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __getitem__(self, request: Request) -> Batch:
        pixels, labels = self.images
        return Batch(pixels[request.indices], labels[request.indices], *request)


class TrainBatches(Sampler[Request]):
    """Every image once an epoch, in an order that is a function of (seed, epoch)."""

    def __init__(self, size: int, batch_size: int, seed: int, rank: int, world_size: int) -> None:
        last = size % batch_size or batch_size
        if min(last, batch_size) < world_size:
            raise UserError(
                f"data.batch_size={batch_size} leaves a last batch of {last} of the {size} training images, "
                f"too few for {world_size} processes; choose another batch_size"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[Request]:
        order = torch.randperm(self.size, generator=generator(self.seed, self.epoch))
        for batch in torch.split(order, self.batch_size):
            part = batch[self.rank :: self.world_size]
            yield Request(part, self.epoch, self.world_size * len(part) / len(batch))


class EvaluationBatches(Sampler[Request]):
    """Every image exactly once over all processes, in order."""

    def __init__(self, size: int, batch_size: int, rank: int, world_size: int) -> None:
        if size < world_size:
            raise UserError(f"{size} images are too few to evaluate on with {world_size} processes")
        self.parts = torch.split(torch.arange(rank, size, world_size), batch_size)

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Request]:
        return (Request(part, 0, 1.0) for part in self.parts)


def loader(images: Images, batches: Sampler[Request], num_workers: int, pin_memory: bool) -> DataLoader[Batch]:
    return DataLoader(
        BatchedImages(images),
        sampler=batches,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
    )


def generator(*key: int) -> torch.Generator:
    """A generator seeded by a hash of the key, so that neighbouring keys share nothing."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
