"""The batches of every epoch and process, without any shared random state."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from resnet_lab.checks import UserError
from resnet_lab.data.policies import Policy
from resnet_lab.data.streams import generator
from resnet_lab.runs.signals import end_with_parent, held

# from an image (C, H, W) uint8, and what was drawn for it, to the views that a net sees, also uint8
View = Callable[..., list[Tensor]]


class Images(NamedTuple):
    """A dataset in memory: pixels (N, C, H, W) uint8 and labels (N,) int64."""

    pixels: Tensor
    labels: Tensor


class Batch(NamedTuple):
    """One process's part of a global batch.

    `images` is (n, C, H, W), uint8 from the loader and float32 on the device; where each image is seen several
    times, it is a list with one such tensor per view. `indices` (n,) are the positions of these images in the
    dataset. With the mean loss over them multiplied by `weight`, the mean over processes is the mean over the
    global batch. `unreadable` names the images that are missing here, and the reason. `annotations` has one per
    image where the dataset has them, as `data.annotations` describes; images of different sizes are then a list.
    `first` is the first of the indices, for those that must not wait for the device.
    """

    images: Any
    labels: Tensor
    indices: Tensor
    epoch: int
    weight: float
    unreadable: tuple[str, ...] = ()
    annotations: Any = ()
    first: int | None = None


class Request(NamedTuple):
    """A sampler's request to the dataset: the batch of these images, in this epoch."""

    indices: Tensor
    epoch: int
    weight: float


def first_of(indices: Tensor) -> int:
    """The first of indices that are on the host; numpy refuses others, which would be waited for."""
    return int(indices.numpy()[0])


class BatchedImages(Dataset[Batch]):
    """Images in memory, looked up a whole batch at a time; a `view` or a `policy` is applied image by image."""

    def __init__(self, images: Images, view: View | None = None, policy: Policy | None = None) -> None:
        self.images, self.view, self.policy = images, view, policy

    def __getitem__(self, request: Request) -> Batch:
        pixels, labels = self.images.pixels[request.indices], self.images.labels[request.indices]
        if self.policy is not None:
            pixels = self.policy(pixels, request.epoch, request.indices)
        if self.view is None:
            return Batch(pixels, labels, *request)
        return Batch(stack([self.view(image) for image in pixels]), labels, *request)


def stack(views: list[list[Tensor]]) -> Any:
    """Stack the views of n images into one tensor (n, C, H, W) per view; return it alone if there is one view."""
    tensors = [torch.stack(view) for view in zip(*views, strict=True)]
    return tensors[0] if len(tensors) == 1 else tensors


class TrainBatches(Sampler[Request]):
    """Every image once per epoch, in an order that depends only on (seed, epoch).

    Raises:
        UserError: the last batch is too small for the processes.
    """

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
        self.first = 0  # batch of this epoch; an interrupted run has trained on those before it

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.first = epoch, 0

    def resume(self, epoch: int, first: int) -> None:
        """Resume in this epoch at batch `first`, or at the next epoch if there is no such batch."""
        self.epoch, self.first = (epoch, first) if first < len(self) else (epoch + 1, 0)

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[Request]:
        order = torch.randperm(self.size, generator=generator("order", self.seed, self.epoch))
        for batch in torch.split(order, self.batch_size)[self.first :]:
            part = batch[self.rank :: self.world_size]
            yield Request(part, self.epoch, self.world_size * len(part) / len(batch))


class EvaluationBatches(Sampler[Request]):
    """Every image exactly once over all processes, in order; or at most `images` of them, evenly spaced.

    Raises:
        UserError: there are fewer images than processes.
    """

    def __init__(self, size: int, batch_size: int, rank: int, world_size: int, images: int | None = None) -> None:
        if size < world_size:
            raise UserError(f"{size} images are too few to evaluate on with {world_size} processes")
        self.images = taken = min(size, images or size)
        self.parts = torch.split(torch.arange(rank, taken, world_size) * size // taken, batch_size)
        self.in_every_process = -(-(taken // world_size) // batch_size)  # batches; some processes have one more

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Request]:
        return (Request(part, 0, 1.0) for part in self.parts)


class Loader(DataLoader[Batch]):
    """DataLoader of whole batches."""

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
        with held():  # the loader's processes stay so: a request to stop is for the trainer
            return super().__iter__()


class TrainLoader(Loader):
    """Loader that, given the state of an interrupted run's loader, resumes at the batch after its last.

    The state counts the batches handed out, not those that workers have read ahead.
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
    """Make a loader process end at once when its trainer is killed, or tells it to."""
    end_with_parent(signal.SIGKILL)
    if hasattr(signal, "sigwaitinfo"):  # macOS has none
        threading.Thread(target=end_when_told, daemon=True).start()


def end_when_told() -> None:
    """End on a SIGTERM from the trainer; one sent to the whole group is for the trainer alone."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
