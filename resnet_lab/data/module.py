"""The LightningDataModules behind all datasets, and behind those that fit in memory."""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from resnet_lab.checks import UserError, check_at_least, check_choice, check_positive
from resnet_lab.data.augment import crop_and_flip
from resnet_lab.data.batches import (
    Batch,
    BatchedImages,
    EvaluationBatches,
    Images,
    Loader,
    TrainBatches,
    TrainLoader,
    View,
    first_of,
)
from resnet_lab.data.files import download
from resnet_lab.data.on_device import DeviceCopies, ImagesOnDevice
from resnet_lab.data.policies import Policy
from resnet_lab.data.streams import generator

log = logging.getLogger(__name__)

# one split for all seeds, so that runs that differ in their seed alone validate on the same images
HOLDOUT_SEED = 0
PARTS = ("train", "val", "test")

Part = TypeVar("Part", bound=tuple[Any, ...])  # a named tuple of `labels` and other columns, one entry per image


class ImageData(LightningDataModule, ABC):
    """Training, validation and test images, normalized and augmented batch by batch on the device.

    Args:
        root: folder of the dataset's files.
        batch_size: training images per iteration, over all processes together.
        eval_batch_size: images per evaluation step, in each process.
        holdout: number of training images to validate on; 0 validates on the test set and trains on all
            images, the paper's final protocol.
        mean: mean to subtract, computed from the training images: per_pixel (the paper) or per_channel; or a list
            of one number per channel on the scale [0, 1].
        flip: mirror half of the training images.
        num_workers: loader processes; 0 is the fastest for images in memory.
        seed: seed of the order and the augmentation.
        subset: number of training images to use, the same ones for all seeds; None for all.
        std: list of one number per channel to divide by after the mean is subtracted; None, as in the paper, for
            no division.

    Raises:
        ValueError: a setting is out of its range.
        UserError: files are missing, truncated or corrupted, or there are too few images.
    """

    in_channels: int
    num_classes: int
    image_size: int
    prefetch = 2
    official = False  # whether the files are verified to be the literature's
    tasks: tuple[str, ...] = ("classification",)  # what the images are annotated for, of resnet_lab.tasks
    final_train_images: int | None = None  # number of training images for the final error; None for all
    may_download = True
    expected_checksum: str | None = None  # of a stored run's images

    def __init__(
        self,
        root: str,
        batch_size: int = 128,
        eval_batch_size: int = 500,
        holdout: int = 0,
        mean: Any = "per_pixel",
        flip: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        subset: int | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        check_positive(batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_at_least(0, holdout=holdout, num_workers=num_workers, seed=seed)
        if not isinstance(flip, bool):
            raise ValueError(f"flip must be true or false, got {flip!r}")
        if not isinstance(root, str):
            raise ValueError(f"root must be a folder, got {root!r}; set data.root=FOLDER")
        if subset is not None:
            check_positive(subset=subset)
        if not isinstance(mean, list):
            check_choice("mean", mean, ("per_pixel", "per_channel"))
        self.root = Path(root).expanduser()
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.holdout, self.subset = holdout, subset
        self.flip, self.num_workers, self.seed = flip, num_workers, seed
        self.mean_given, self.std_given = mean, std
        self.train: Any = None
        self.unreadable: set[str] = set()

    @abstractmethod
    def load(self) -> tuple[Any, Any]:
        """Read the training and the test images, as named tuples with `labels` (N,)."""

    @abstractmethod
    def checksum_of(self, *parts: Any) -> str:
        """Compute a sha256 by which to recognize the images."""

    @abstractmethod
    def dataset(self, part: Any, training: bool = False, view: View | None = None) -> Dataset[Batch]:
        """Make the dataset of a part: for training, for evaluation, or as `view` shows the images."""

    def trainer_dataset(self, part: Any, training: bool = False) -> Dataset[Batch]:
        """Make the dataset of a part for a Trainer, on whose device it may be."""
        return self.dataset(part, training)

    @abstractmethod
    def mean_of(self, train: Any, kind: str) -> Tensor:
        """Compute the training images' mean on the scale [0, 1], per_pixel (C, H, W) or per_channel (C, 1, 1)."""

    @abstractmethod
    def augment(self, images: Tensor, batch: Batch) -> Tensor:
        """Augment the normalized images (n, C, H, W) of a training batch, on the device."""

    def check_loaded(self, train: Any, test: Any) -> None:
        """Raise UserError if the images are not as the settings require."""

    def prepare(self) -> None:
        """Read the files, split them and compute the mean; once, before the Trainer starts.

        Raises:
            UserError: files are missing or not those of the stored run, or there are too few images for subset and
                holdout.
        """
        if self.train is not None:
            return
        everything, self.test = self.load()
        self.check_loaded(everything, self.test)
        if self.subset is not None:
            if self.subset > len(everything.labels):
                raise UserError(
                    f"data.subset must not exceed the {len(everything.labels)} training images, got {self.subset}"
                )
            _, everything = hold_out(everything, self.subset)
        if self.holdout >= len(everything.labels):
            raise UserError(
                f"data.holdout must be below the {len(everything.labels)} training images, got {self.holdout}"
            )
        self.checksum = self.checksum_of(everything, self.test)
        if self.expected_checksum not in (None, self.checksum):
            raise UserError(
                f"the images in {self.root} are not those of the record (sha256 {self.checksum[:12]}); put the "
                "run's own there"
            )
        self.train, self.val = hold_out(everything, self.holdout) if self.holdout else (everything, self.test)
        given, std = self.mean_given, self.std_given
        listed = isinstance(given, list)
        self.mean = self._per_channel("mean", given) if listed else self.mean_of(self.train, given)
        self.std = None if std is None else self._per_channel("std", std)

    def train_images(self) -> Any:
        """The training images.

        Raises:
            RuntimeError: `prepare()` has not been called.
        """
        if self.train is None:
            raise RuntimeError("prepare() has not been called")
        return self.train

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the images that a net is given: (C, H, W)."""
        return self.in_channels, self.image_size, self.image_size

    @property
    def iterations_per_epoch(self) -> int:
        return -(-len(self.train_images().labels) // self.batch_size)

    @property
    def rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> DataLoader[Batch]:
        train = self.train_images()
        batches = TrainBatches(len(train.labels), self.batch_size, self.seed, *self.rank_and_world_size)
        dataset = self.trainer_dataset(train, training=True)
        return TrainLoader(dataset, batches, self.num_workers, self._pins(dataset), self.prefetch)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader(self.val)

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Loaders of the test images, and of `final_train_images` training images without augmentation."""
        train, count = self.train_images(), self.final_train_images
        if count is not None and count < len(train.labels):
            _, train = hold_out(train, count)
        return [self._evaluation_loader(part) for part in ((self.test, train) if count != 0 else (self.test,))]

    def batches(
        self, part: str, size: int | None = None, images: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over a part without a Trainer: each image once and in order, normalized and not augmented.

        Args:
            part: train, val or test.
            size: images per batch; None for `eval_batch_size`.
            images: limit of their number, evenly spaced because folders are sorted by class; None for all.

        Returns:
            float32 images (n, C, H, W) and int64 labels (n,), on the CPU. The first call reads the files.

        Raises:
            UserError: `prepare` fails, or an image cannot be read and is not to be left out.
            ValueError: there is no such part, or a number is not a positive integer.
        """
        check_choice("part", part, PARTS)
        size = self.eval_batch_size if size is None else size
        check_positive(size=size, images=1 if images is None else images)
        self.prepare()
        of_part = getattr(self, part)
        requests = EvaluationBatches(len(of_part.labels), size, rank=0, world_size=1, images=images)
        loader = Loader(self.dataset(of_part), requests, self.num_workers, prefetch=self.prefetch)
        ready = (self.ready(batch) for batch in loader)
        return ((batch.images, batch.labels) for batch in ready if len(batch.labels))

    def ready(self, batch: Batch, training: bool = False) -> Batch:
        """Normalize a batch, and augment it in training, as a net takes it."""
        self.note_unreadable(batch)
        if not len(batch.labels):
            if training:
                raise UserError(
                    f"none of the images of a batch can be read, the first is {batch.unreadable[0]}; remove "
                    "them, or choose another data.batch_size"
                )
            return batch
        batch = batch._replace(images=self.normalize(batch.images))
        return self.augmented(batch) if training else batch

    def augmented(self, batch: Batch) -> Batch:
        """Augment a training batch that is normalized, with its annotations if it has any."""
        return batch._replace(images=self.augment(batch.images, batch))

    def on_before_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        known = batch.first is not None or not len(batch.indices)
        return batch if known else batch._replace(first=first_of(batch.indices))

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        if not self.trainer:
            return self.ready(batch)
        batch = self.ready(batch, self.trainer.training)
        # in the precision of the training
        return batch._replace(images=self.trainer.precision_plugin.convert_input(batch.images))

    def note_unreadable(self, batch: Batch) -> None:
        """Report images that could not be read, once each; nothing to do where all can."""

    def unreadable_everywhere(self) -> list[str]:
        """Collect the unreadable images of all processes."""
        of_all = [self.unreadable]
        if torch.distributed.is_initialized():
            of_all = [set() for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(of_all, self.unreadable)
        return sorted(set().union(*of_all))

    def normalize(self, pixels: Any) -> Any:
        """Convert (N, C, H, W) uint8 to float32 in [0, 1], minus the mean, over the standard deviation if given.

        For images of another size, a mean per pixel is averaged to one per channel; a list of images (C, H, W)
        remains a list.
        """
        if isinstance(pixels, list):
            return [self.normalize(image[None])[0] for image in pixels]
        self.mean = mean = self.mean.to(pixels.device)
        if mean.shape[1:] not in ((1, 1), pixels.shape[2:]):
            mean = mean.mean((1, 2), keepdim=True)
        images = pixels.float().div_(255).sub_(mean)
        if self.std is None:
            return images
        self.std = self.std.to(pixels.device)
        return images.div_(self.std)

    def denormalize(self, images: Tensor) -> Tensor:
        """Undo `normalize`: float32 images (N, C, H, W) on the scale [0, 1]."""
        mean = self.mean.to(images.device)
        return (images if self.std is None else images * self.std.to(images.device)) + mean

    def _evaluation_loader(self, part: Any) -> DataLoader[Batch]:
        batches = EvaluationBatches(len(part.labels), self.eval_batch_size, *self.rank_and_world_size)
        dataset = self.trainer_dataset(part)
        return Loader(dataset, batches, self.num_workers, self._pins(dataset), self.prefetch)

    def _pins(self, dataset: Dataset[Batch]) -> bool:
        """Whether batches are pinned in memory, from which a copy to a GPU waits for nothing."""
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return on_gpu and not isinstance(dataset, ImagesOnDevice)

    def _per_channel(self, name: str, values: Any) -> Tensor:
        """Check a list of one number per channel, and shape it (C, 1, 1)."""
        numbers = isinstance(values, list) and all(type(value) in (int, float) for value in values)
        if not numbers or len(values) != self.in_channels or (name == "std" and min(values) <= 0):
            positive = " above zero" if name == "std" else ""
            raise UserError(f"data.{name} must be a list of {self.in_channels} numbers{positive}, got {values!r}")
        return torch.tensor(values, dtype=torch.float32)[:, None, None]


class ImagesInMemory(ImageData):
    """Images kept as uint8 in memory.

    Args:
        crop_padding: pixels of padding for random crops in training; 0 for none.
        policy: rand_augment (arXiv:1909.13719) or trivial_augment (arXiv:2103.10158) of training images, before
            they are cropped; None for neither.
        settings: those of `ImageData`.
    """

    def __init__(self, crop_padding: int = 0, policy: str | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        check_at_least(0, crop_padding=crop_padding)
        self.policy = None if policy is None else Policy(policy, self.seed)
        self.crop_padding = crop_padding
        self.device_copies = DeviceCopies()

    @abstractmethod
    def load(self) -> tuple[Images, Images]:
        """Read the training and the test images."""

    def download(self, name: str, folder: str, fetch: Callable[[str], object]) -> None:
        """Download `folder` into the root with `fetch(root)`.

        Raises:
            UserError: the download fails, or these images must not be downloaded.
        """
        if not self.may_download:
            raise UserError(f"{name} is not in {self.root}, and evaluating a run downloads nothing; put it there")
        download(name, self.root, folder, fetch)

    def checksum_of(self, *parts: Images) -> str:
        return checksum(*parts)

    def dataset(self, part: Images, training: bool = False, view: View | None = None) -> Dataset[Batch]:
        return BatchedImages(part, view, self.policy if training else None)

    def trainer_dataset(self, part: Images, training: bool = False) -> Dataset[Batch]:
        """Make the dataset of a part for a Trainer: on its GPU if there is room, and nothing to do on the host."""
        on_host = self.num_workers or (training and self.policy is not None)
        if self.trainer is None or on_host:
            return self.dataset(part, training)
        device, copies = self.trainer.strategy.root_device, self.device_copies
        if not copies.fit([self.train_images(), self.val, self.test], device):
            return self.dataset(part, training)
        return ImagesOnDevice(copies.of(part, device))

    def mean_of(self, train: Images, kind: str) -> Tensor:
        return mean_image(train.pixels, kind)

    def augment(self, images: Tensor, batch: Batch) -> Tensor:
        return crop_and_flip(images, self.crop_padding, self.flip, self.seed, batch.epoch, batch.indices)

    def check_loaded(self, train: Images, test: Images) -> None:
        for images in (train, test):
            if tuple(images.pixels.shape[1:]) != self.shape:
                raise UserError(
                    f"the images in {self.root} have shape {tuple(images.pixels.shape[1:])}, those of "
                    f"{type(self).__name__} {self.shape}; put the right files there"
                )
        if self.crop_padding > self.image_size:
            raise UserError(
                f"data.crop_padding must not exceed the image size {self.image_size}, got {self.crop_padding}"
            )


def hold_out(part: Part, count: int) -> tuple[Part, Part]:
    """Split a part into the images kept and `count` random ones held out, the same for all seeds."""
    order = torch.randperm(len(part.labels), generator=generator("holdout", HOLDOUT_SEED))  # type: ignore[attr-defined]
    return rows_of(part, order[count:]), rows_of(part, order[:count])


def rows_of(part: Part, indices: Tensor) -> Part:
    """The images with these indices, in the order of the part."""
    rows = indices.sort().values
    # numpy would take a tensor of one index for a number
    return type(part)(*(column[rows.numpy() if isinstance(column, np.ndarray) else rows] for column in part))


def mean_image(pixels: Tensor, kind: str) -> Tensor:
    """The mean of (N, C, H, W) uint8 pixels on the scale [0, 1]: (C, H, W), or (C, 1, 1) per channel."""
    # a sum of bytes in int64 is exact; a float mean over a large set is neither exact nor small
    dims = (0,) if kind == "per_pixel" else (0, 2, 3)
    count = pixels[:, 0].numel() if kind == "per_channel" else len(pixels)
    total = pixels.sum(dims, keepdim=True, dtype=torch.int64)[0]
    return (total.double() / (count * 255)).float()


def checksum(*parts: Images) -> str:
    """The sha256 of all pixels and labels, in hexadecimal."""
    digest = hashlib.sha256()
    for tensor in (tensor for images in parts for tensor in images):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
