"""A dataset of images that fit in memory, ready for a Trainer."""

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from resnet_lab.checks import UserError, check_at_least, check_choice, check_positive
from resnet_lab.data.augment import crop_and_flip
from resnet_lab.data.batches import Batch, EvaluationBatches, Images, Loader, TrainBatches, TrainLoader, generator

# One split for all seeds, so that runs that differ in their seed alone validate on the same images.
HOLDOUT_SEED = 0


class ImageData(LightningDataModule, ABC):
    """Training, validation and test images as uint8 in memory, normalized and augmented batch by batch
    after their transfer to the device.

    Args:
        root: the folder of the dataset's files.
        batch_size: training images an iteration, over all processes together.
        eval_batch_size: images a step of evaluation, in each process.
        holdout: images taken from the training set to validate on; 0 validates on the test set and
            trains on all images, the paper's final protocol.
        mean: what is subtracted, computed from the training images: per_pixel (the paper) or per_channel.
        crop_padding: pixels of padding for random crops in training; 0 for none.
        flip: mirror half of the training images.
        num_workers: loader processes; 0 is the fastest for images in memory.
        seed: of the order and the augmentation.
        subset: train on so many of the training images, the same for all seeds; None for all.

    Raises:
        ValueError: a setting is out of its range.
        UserError: files are missing, truncated or corrupted, or there are no more images than `holdout`.
    """

    in_channels: int
    num_classes: int
    image_size: int

    def __init__(
        self,
        root: str,
        batch_size: int = 128,
        eval_batch_size: int = 500,
        holdout: int = 0,
        mean: str = "per_pixel",
        crop_padding: int = 0,
        flip: bool = False,
        num_workers: int = 0,
        seed: int = 0,
        subset: int | None = None,
    ) -> None:
        super().__init__()
        check_positive(batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_at_least(0, holdout=holdout, crop_padding=crop_padding, num_workers=num_workers, seed=seed)
        if not isinstance(flip, bool):
            raise ValueError(f"flip must be true or false, got {flip!r}")
        if not isinstance(root, str):
            raise ValueError(f"root must be a folder, got {root!r}")
        check_choice("mean", mean, ("per_pixel", "per_channel"))
        self.root = Path(root).expanduser()
        self.batch_size, self.eval_batch_size, self.holdout = batch_size, eval_batch_size, holdout
        self.mean_kind, self.crop_padding, self.flip = mean, crop_padding, flip
        self.num_workers, self.seed = num_workers, seed
        if subset is not None:
            check_positive(subset=subset)
        self.subset = subset
        self.train: Images | None = None

    @abstractmethod
    def load(self) -> tuple[Images, Images]:
        """The training and the test images."""

    def prepare(self) -> None:
        """Read the files, split and take the mean; once, before the Trainer starts."""
        if self.train is not None:
            return
        everything, self.test = self.load()
        self._check_shapes(everything, self.test)
        if self.subset is not None:
            everything = self._part(everything, self.subset)
        if self.holdout >= len(everything.labels):
            raise UserError(
                f"data.holdout must be below the {len(everything.labels)} training images, got {self.holdout}"
            )
        self.checksum = checksum(everything, self.test)
        self.train, self.val = split(everything, self.holdout) if self.holdout else (everything, self.test)
        self.mean = mean_image(self.train.pixels, self.mean_kind)

    def _part(self, images: Images, subset: int) -> Images:
        count = len(images.labels)
        if subset > count:
            raise UserError(f"data.subset must not exceed the {count} training images, got {subset}")
        return split(images, subset)[1]

    def train_images(self) -> Images:
        """What there is to train on, once it is read."""
        if self.train is None:
            raise RuntimeError("prepare() has not been called")
        return self.train

    @property
    def iterations_per_epoch(self) -> int:
        return -(-len(self.train_images().labels) // self.batch_size)

    def _check_shapes(self, *parts: Images) -> None:
        shape = (self.in_channels, self.image_size, self.image_size)
        for images in parts:
            if tuple(images.pixels.shape[1:]) != shape:
                raise UserError(
                    f"the images in {self.root} have shape {tuple(images.pixels.shape[1:])}, those of "
                    f"{type(self).__name__} {shape}; put the right files there"
                )
        if self.crop_padding > self.image_size:
            raise UserError(
                f"data.crop_padding must not exceed the image size {self.image_size}, got {self.crop_padding}"
            )

    @property
    def rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> DataLoader[Batch]:
        train = self.train_images()
        size = len(train.labels)
        batches = TrainBatches(size, self.batch_size, self.seed, *self.rank_and_world_size)
        return TrainLoader(train, batches, self.num_workers, self._pin_memory)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader(self.val)

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """The test images, and the training images as they are, without augmentation."""
        return [self._evaluation_loader(self.test), self._evaluation_loader(self.train_images())]

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images = self.normalize(batch.images)
        if self.trainer and self.trainer.training:
            images = crop_and_flip(images, self.crop_padding, self.flip, self.seed, batch.epoch, batch.indices)
        if self.trainer:  # the precision that it trains in
            images = self.trainer.precision_plugin.convert_input(images)
        return batch._replace(images=images)

    def normalize(self, pixels: Tensor) -> Tensor:
        """From uint8 to float32 in [0, 1] less the mean."""
        self.mean = self.mean.to(pixels.device)
        return pixels.float().div_(255).sub_(self.mean)

    def _evaluation_loader(self, images: Images) -> DataLoader[Batch]:
        batches = EvaluationBatches(len(images.labels), self.eval_batch_size, *self.rank_and_world_size)
        return Loader(images, batches, self.num_workers, self._pin_memory)

    @property
    def _pin_memory(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"


def split(images: Images, holdout: int) -> tuple[Images, Images]:
    """The images less `holdout` random ones, and those."""
    order = torch.randperm(len(images.labels), generator=generator(HOLDOUT_SEED))
    held_out, rest = order[:holdout].sort().values, order[holdout:].sort().values
    pixels, labels = images
    return Images(pixels[rest], labels[rest]), Images(pixels[held_out], labels[held_out])


def mean_image(pixels: Tensor, kind: str) -> Tensor:
    """The mean of (N, C, H, W) uint8 pixels on the scale [0, 1]: (C, H, W), or (C, 1, 1) per channel."""
    # A sum of bytes in int64 is exact; a float mean over a large set is neither exact nor small.
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
