"""Which images make up which batch, for every epoch and process, without any shared random state."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from resnet_lab.checks import UserError
from resnet_lab.data.streams import generator
from resnet_lab.runs.signals import end_with_parent, held

# From (C, H, W) uint8, and what was drawn for the image, to what a net is to see of it, uint8, too.
View = Callable[..., list[Tensor]]


class Images(NamedTuple):
    """A dataset in memory: pixels (N, C, H, W) uint8 and labels (N,) int64."""

    pixels: Tensor
    labels: Tensor


class Batch(NamedTuple):
    """One process's part of a global batch.

    `images` is (n, C, H, W), uint8 from the loader and float32 once it is on the device; `indices` say
    which images of the dataset these are. `weight` is what the mean loss over these images has to be
    multiplied by for the mean over processes to be the mean over the global batch. `unreadable` names the
    images that should be here, and why they are not. Where an image is to be seen several times, `images` is
    a list with a tensor a view.
    """

    images: Any
    labels: Tensor
    indices: Tensor
    epoch: int
    weight: float
    unreadable: tuple[str, ...] = ()


class Request(NamedTuple):
    """What a sampler asks of the dataset: the batch of these images, in this epoch."""

    indices: Tensor
    epoch: int
    weight: float


class BatchedImages(Dataset[Batch]):
    """Looks up whole batches, so that nothing is done image by image, unless there are several views of each."""

    def __init__(self, images: Images, view: View | None = None) -> None:
        self.images, self.view = images, view

    def __getitem__(self, request: Request) -> Batch:
        pixels, labels = self.images.pixels[request.indices], self.images.labels[request.indices]
        if self.view is None:
            return Batch(pixels, labels, *request)
        return Batch(stack([self.view(image) for image in pixels]), labels, *request)


def stack(views: list[list[Tensor]]) -> Any:
    """From each image's views to a tensor (n, C, H, W) a view; to that alone, if there is one view."""
    tensors = [torch.stack(view) for view in zip(*views, strict=True)]
    return tensors[0] if len(tensors) == 1 else tensors


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
        self.first = 0  # of the batches of this epoch; those before it were trained on before an interruption

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.first = epoch, 0

    def resume(self, epoch: int, first: int) -> None:
        """Go on in this epoch with batch `first`, or with the next epoch where there is no such batch."""
        self.epoch, self.first = (epoch, first) if first < len(self) else (epoch + 1, 0)

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[Request]:
        order = torch.randperm(self.size, generator=generator("order", self.seed, self.epoch))
        for batch in torch.split(order, self.batch_size)[self.first :]:
            part = batch[self.rank :: self.world_size]
            yield Request(part, self.epoch, self.world_size * len(part) / len(batch))


class EvaluationBatches(Sampler[Request]):
    """Every image exactly once over all processes, in order; or at most `images` of them, evenly spaced."""

    def __init__(self, size: int, batch_size: int, rank: int, world_size: int, images: int | None = None) -> None:
        if size < world_size:
            raise UserError(f"{size} images are too few to evaluate on with {world_size} processes")
        taken = min(size, images or size)
        self.parts = torch.split(torch.arange(rank, taken, world_size) * size // taken, batch_size)
        self.in_every_process = -(-(taken // world_size) // batch_size)  # of these batches; one may have one more

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Request]:
        return (Request(part, 0, 1.0) for part in self.parts)


class Loader(DataLoader[Batch]):
    """A loader of whole batches."""

    def __init__(
        self,
        dataset: Dataset[Batch],
        batches: Sampler[Request],
        num_workers: int = 0,
        pin_memory: bool = False,
        prefetch: int = 2,
    ) -> None:
        super().__init__(
            dataset,
            sampler=batches,
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=prefetch if num_workers else None,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
            worker_init_fn=end_with_trainer,
        )

    def __iter__(self) -> Any:
        with held():  # for good in the loader's processes: a request to stop is the trainer's
            return super().__iter__()


class TrainLoader(Loader):
    """Goes on, once it has the state of an interrupted run's loader, with the batch after its last.

    The state counts the batches that were handed out, whatever the workers have read ahead.
    """

    sampler: TrainBatches
    taken = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        self.taken = self.sampler.first
        for batch in super().__iter__():
            self.taken += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.sampler.epoch, "batch": self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.sampler.resume(state["epoch"], state["batch"])
        self.taken = self.sampler.first


def end_with_trainer(worker: int) -> None:
    """Have a loader's process end at once when its trainer is killed, or wants it to."""
    end_with_parent(signal.SIGKILL)
    threading.Thread(target=end_when_told, daemon=True).start()


def end_when_told() -> None:
    """A SIGTERM that the trainer sends ends its loader; one to the whole group is for the trainer alone."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
