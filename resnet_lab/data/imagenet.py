"""Folders of too many images for memory: ImageNet in torchvision's layout, or any tree with one folder per
class."""

import contextlib
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import DatasetFolder

from resnet_lab.checks import UserError, check_positive
from resnet_lab.crops import check_crops
from resnet_lab.data.augment import colour_shifts
from resnet_lab.data.batches import Batch, EvaluationBatches, Loader, Request, View, stack
from resnet_lab.data.decoding import read_image, reason, still_size
from resnet_lab.data.module import hold_out, log
from resnet_lab.data.photographs import Photographs
from resnet_lab.data.views import CenterCrop, RandomCrop
from resnet_lab.text import one_line

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif")
SAMPLED = 9  # images examined to estimate their size
BLOWN_UP = 2  # times the files' own size; images resized to more than that count as small
CLASSES = 1000  # of ImageNet, for use without its folders


class Files(NamedTuple):
    """Images on the disk: paths (N,) as bytes, which take little memory, and labels (N,) int64."""

    paths: Any
    labels: Tensor


class Colours(NamedTuple):
    """Mean and principal components of the training images' colours, on the scale [0, 1].

    `mean` is (3, size, size); the columns of `components` (3, 3) are the eigenvectors of the covariance of red,
    green and blue, each times its eigenvalue.
    """

    mean: Tensor
    components: Tensor


class ImageNet(Photographs):
    """Photographs in `root/train/<class>/` and `root/val/<class>/`, decoded by the loader's processes.

    In training a crop of `image_size` pixels is taken from the image with its shorter side resized to a random
    length, mirrored half of the time, and its colours are shifted along their principal components (Section 3.4);
    in evaluation the crop is the middle one, with the shorter side at `eval_shorter_side`. The validation images
    are also the test images, because ImageNet's test labels are not public. Images are turned according to their
    EXIF data.

    Args:
        image_size: side of a crop in pixels.
        shorter_side: least and greatest length of the shorter side in training, in pixels.
        eval_shorter_side: length of the shorter side in evaluation, in pixels.
        colour: standard deviation of the multiples of the principal components; 0 for none.
        num_classes: number of classes required; None for the number of folders.
        settings: those of `Photographs`; `statistics_images` is also for the components.

    Raises:
        ValueError: a setting is out of its range.
        UserError: folders are missing or empty, the classes in both differ or have another number, or an image
            cannot be read.
    """

    def __init__(
        self,
        image_size: int = 224,
        shorter_side: tuple[int, int] = (256, 480),
        eval_shorter_side: int = 256,
        colour: float = 0.1,
        num_classes: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        check_positive(image_size=image_size)
        check_crops(image_size, shorter_side, eval_shorter_side)
        self.shorter_side = (shorter_side[0], shorter_side[1])
        if isinstance(colour, bool) or not isinstance(colour, int | float) or colour < 0:
            raise ValueError(f"colour must be a number, 0 or more, got {colour!r}")
        if num_classes is not None:
            check_positive(num_classes=num_classes)
        self.image_size, self.eval_shorter_side = image_size, eval_shorter_side
        self.colour = colour
        self.num_classes = num_classes or len(class_folders(self.root / "train")) or CLASSES
        self.colours: Colours | None = None

    def load(self) -> tuple[Files, Files]:
        self.prepare_loading()
        for part in ("train", "val"):
            check_folder(self.root, part)
        self._check_classes()
        train, val = read_folder(self.root / "train"), read_folder(self.root / "val")
        warn_of_small_images(train, self.shorter_side)
        return train, val

    def dataset(self, part: Files, training: bool = False, view: View | None = None) -> Dataset[Batch]:
        if training:
            crop = RandomCrop(self.shorter_side, self.image_size, self.flip, self.seed)
            return ImageFiles(part, self.max_pixels, crop, crop.draws)
        return ImageFiles(part, self.max_pixels, view or CenterCrop(self.eval_shorter_side, self.image_size))

    def train_dataloader(self) -> DataLoader[Batch]:
        if self.colour and self.colours is None:
            self.colours = self._statistics()
        return super().train_dataloader()

    def mean_of(self, train: Files, kind: str) -> Tensor:
        self.colours = self._statistics()
        mean = self.colours.mean
        return mean if kind == "per_pixel" else mean.mean((1, 2), keepdim=True)

    def augment(self, images: Tensor, batch: Batch) -> Tensor:
        if not self.colour or self.colours is None:
            return images
        # to stay there, as to send them is to wait for the device
        self.colours = self.colours._replace(components=self.colours.components.to(images.device))
        components = self.colour * self.colours.components
        shifts = colour_shifts(components, self.seed, batch.epoch, batch.indices)
        return images.add_(shifts if self.std is None else shifts / self.std.to(images.device))

    def _check_classes(self) -> None:
        classes, others = (class_folders(self.root / part) for part in ("train", "val"))
        if different := sorted(set(classes) ^ set(others)):
            raise UserError(
                f"the classes in {self.root}/train ({len(classes)}) and {self.root}/val ({len(others)}) are not "
                f"the same: {', '.join(different[:3])} is in one of them alone"
            )
        if len(classes) != self.num_classes:
            raise UserError(
                f"data.num_classes={self.num_classes}, but {self.root}/train has {len(classes)} folders"
            )

    def _statistics(self) -> Colours:
        """Estimate mean and components from `statistics_images` training images, the same for all seeds."""
        train: Files = self.train
        few = train
        if self.statistics_images < len(train.labels):
            _, few = hold_out(train, self.statistics_images)
        loader = Loader(self.dataset(few), EvaluationBatches(len(few.labels), 100, 0, 1), self.num_workers)
        total = torch.zeros(3, self.image_size, self.image_size, dtype=torch.int64)
        products, count = torch.zeros(3, 3, dtype=torch.float64), 0
        for batch in loader:
            self.note_unreadable(batch)
            if not len(batch.labels):
                continue
            total += batch.images.sum(0, dtype=torch.int64)
            pixels = batch.images.transpose(0, 1).reshape(3, -1).double()
            products += pixels @ pixels.T
            count += len(batch.images)
        if not count:
            raise UserError(f"none of {len(few.labels)} images in {self.root}/train can be read")
        mean = total.double() / count
        colour = mean.mean((1, 2))
        covariance = products / (count * self.image_size**2) - torch.outer(colour, colour)
        values, vectors = torch.linalg.eigh(covariance / 255**2)
        return Colours((mean / 255).float(), (vectors * values).float())


MakeDraws = Callable[[int, Tensor], Sequence[Any]]  # from an epoch and the images' indices to a draw for each


def no_draws(epoch: int, indices: Tensor) -> Sequence[None]:
    return [None] * len(indices)


class ImageFiles(Dataset[Batch]):
    """Images read and viewed one by one; a batch names those that cannot be read."""

    def __init__(self, files: Files, max_pixels: int, view: View, draws: MakeDraws = no_draws) -> None:
        self.files, self.max_pixels, self.draws, self.view = files, max_pixels, draws, view

    def __getitem__(self, request: Request) -> Batch:
        shown, kept, unreadable = [], [], []
        draws = self.draws(request.epoch, request.indices)
        for place, (index, draw) in enumerate(zip(request.indices.tolist(), draws, strict=True)):
            path = os.fsdecode(self.files.paths[index])
            try:
                image = read_image(path, self.max_pixels)
            except (OSError, RuntimeError, ValueError) as error:
                unreadable.append(one_line(f"{path} ({reason(error)})"))
                continue
            shown.append(self.view(image, draw))
            kept.append(place)
        indices = request.indices[torch.tensor(kept, dtype=torch.int64)]
        images = stack(shown) if shown else torch.empty(0)
        return Batch(images, self.files.labels[indices], indices, *request[1:], tuple(unreadable))


def class_folders(folder: Path) -> list[str]:
    """The names of the folders in `folder`, in order; none if it does not exist."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []


def check_folder(root: Path, part: str) -> None:
    folder = root / part
    if not class_folders(folder):
        archives = sorted(path.name for path in root.glob("ILSVRC2012_*.tar*")) if root.is_dir() else []
        how = (
            f"unpack {', '.join(archives)} first: torchvision.datasets.ImageNet({str(root)!r}, {part!r}) does it"
            if archives
            else "put the images there, one folder per class, or set data.root to the folder with train/ and val/"
        )
        raise UserError(f"{folder} has no folders of images; {how}")


def read_folder(folder: Path) -> Files:
    try:
        samples = DatasetFolder(str(folder), str, EXTENSIONS).samples
    except FileNotFoundError as error:
        raise UserError(f"{folder}: {str(error).splitlines()[0]}") from error
    others = sum(len(files) for _, _, files in os.walk(folder, followlinks=True)) - len(samples)
    if others:
        log.warning(
            "%s: %d files are left out, because their names do not end in one of %s",
            folder,
            others,
            " ".join(EXTENSIONS),
        )
    paths, labels = zip(*samples, strict=True)
    return Files(np.array([os.fsencode(path) for path in paths]), torch.tensor(labels))


def warn_of_small_images(train: Files, shorter_side: tuple[int, int]) -> None:
    """Warn if a sample of the images suggests that resizing would blow them up."""
    few = train.paths[:: -(-len(train.paths) // SAMPLED)]
    sizes = []
    for path in few:
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # reported when the image is read
            sizes.append(min(still_size(np.fromfile(os.fsdecode(path), np.uint8))))
    own = statistics.median(sizes) if sizes else shorter_side[0]
    if shorter_side[0] > BLOWN_UP * own:
        log.warning(
            "the images are small, their shorter side is %g pixels in the median of %d, and "
            "data.shorter_side=%s blows them up %.1f to %.1f times; data=image_folder is for small images",
            own,
            len(sizes),
            list(shorter_side),
            *(side / own for side in shorter_side),
        )
