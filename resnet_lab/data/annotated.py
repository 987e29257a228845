"""Photographs with annotations: whole images of many sizes, with boxes or a mask of what is in them."""

import hashlib
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from resnet_lab.checks import UserError
from resnet_lab.data.annotations import UNKNOWN, Annotation, mirror_half
from resnet_lab.data.batches import Batch, EvaluationBatches, Loader, Request, View
from resnet_lab.data.decoding import decode, opened, orientation, reason, still_size
from resnet_lab.data.module import hold_out, log
from resnet_lab.data.objects import Objects, Thing, area, label_of
from resnet_lab.data.photographs import Photographs
from resnet_lab.text import one_line

SIZE_UNKNOWN = (0, 0)
# by EXIF's number for how an image is to be shown, the way back to how it is stored
TURNED_BACK: dict[int, Callable[[Tensor], Tensor]] = {
    2: lambda image: image.flip(2),
    3: lambda image: image.flip(1, 2),
    4: lambda image: image.flip(1),
    5: lambda image: image.transpose(1, 2),
    6: lambda image: image.rot90(1, (1, 2)),
    7: lambda image: image.flip(1, 2).transpose(1, 2),
    8: lambda image: image.rot90(-1, (1, 2)),
}


class Annotated(NamedTuple):
    """An image as a dataset's files describe it: `size` is its width and height where they say so."""

    path: str
    things: list[Thing]
    size: tuple[int, int] = SIZE_UNKNOWN
    mask: str = ""


class AnnotatedFiles(NamedTuple):
    """Images on the disk, and their annotations: paths (N,) and masks (N,) as bytes, sizes (N, 2) as width and
    height; labels (N,) int64 are the classes of the images' largest objects."""

    paths: Any
    labels: Tensor
    objects: Objects
    sizes: Tensor
    masks: Any


class AnnotatedImages(Photographs):
    """Whole images of their own sizes, with annotations; a task resizes them.

    Annotations are of the pixels as they are stored, so EXIF data turn no image. Images without an object that
    counts are left out of the training, as torchvision's references do, and kept in evaluation.

    Args:
        mean: per_channel, or a list of three numbers; images of many sizes have no mean per pixel.
        settings: those of `Photographs`.

    Raises:
        ValueError: a setting is out of its range.
        UserError: files are missing, or something in them is not as the format has it.
    """

    image_size = 600  # of the shorter side in the paper's detector, for what is counted without images

    def __init__(self, mean: Any = "per_channel", **settings: Any) -> None:
        super().__init__(mean=mean, **settings)
        if mean == "per_pixel":
            raise ValueError(
                "mean must be per_channel or a list of three numbers on the scale [0, 1], as the images have many "
                "sizes; got 'per_pixel'"
            )

    @abstractmethod
    def read(self) -> tuple[list[Annotated], list[Annotated]]:
        """Read the annotations of the training and of the test images."""

    def load(self) -> tuple[AnnotatedFiles, AnnotatedFiles]:
        self.prepare_loading()
        train, test = self.read()
        if not any(image.mask for image in train):
            train = with_objects(train)
        if not train or not test:
            raise UserError(f"{self.root} has no {'test' if train else 'training'} images with annotations")
        return files_of(train), files_of(test)

    def checksum_of(self, *parts: AnnotatedFiles) -> str:
        """Compute a sha256 of the names and sizes of all files, and of all boxes."""
        digest = hashlib.sha256(super().checksum_of(*parts).encode())
        for part in parts:
            digest.update(super().checksum_of(part._replace(paths=part.masks[part.masks != b""])).encode())
            for tensor in (part.objects.boxes, part.objects.labels, part.objects.left_out, part.objects.ends):
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()

    def dataset(self, part: AnnotatedFiles, training: bool = False, view: View | None = None) -> Dataset[Batch]:
        if view is not None:
            raise UserError(f"{type(self).__name__} has whole images of many sizes, not crops of them")
        return AnnotatedDataset(part, self.max_pixels, self.num_classes)

    def mean_of(self, train: AnnotatedFiles, kind: str) -> Tensor:
        """Compute the mean (3, 1, 1) over all pixels of `statistics_images` training images."""
        few = train
        if self.statistics_images < len(train.labels):
            _, few = hold_out(train, self.statistics_images)
        loader = Loader(self.dataset(few), EvaluationBatches(len(few.labels), 16, 0, 1), self.num_workers)
        total, count = torch.zeros(3, dtype=torch.int64), 0
        for batch in loader:
            self.note_unreadable(batch)
            for image in batch.images:
                total += image.sum((1, 2), dtype=torch.int64)
                count += image[0].numel()
        if not count:
            raise UserError(f"none of {len(few.labels)} training images in {self.root} can be read")
        return (total.double() / (count * 255)).float()[:, None, None]

    def augment(self, images: Any, batch: Batch) -> Any:
        return self.augmented(batch._replace(images=images)).images

    def augmented(self, batch: Batch) -> Batch:
        if not self.flip:
            return batch
        images, annotations = mirror_half(batch.images, batch.annotations, self.seed, batch.epoch, batch.indices)
        return batch._replace(images=images, annotations=annotations)


class AnnotatedDataset(Dataset[Batch]):
    """Images and masks read one by one; a batch names those that cannot be read."""

    def __init__(self, files: AnnotatedFiles, max_pixels: int, num_classes: int) -> None:
        self.files, self.max_pixels, self.num_classes = files, max_pixels, num_classes

    def __getitem__(self, request: Request) -> Batch:
        shown, kept, unreadable = [], [], []
        for place, index in enumerate(request.indices.tolist()):
            path = os.fsdecode(self.files.paths[index])
            try:
                shown.append(self._read(path, index))
            except (OSError, RuntimeError, ValueError) as error:
                unreadable.append(one_line(f"{path} ({reason(error)})"))
                continue
            kept.append(place)
        indices = request.indices[torch.tensor(kept, dtype=torch.int64)]
        images, annotations = [image for image, _ in shown], [annotation for _, annotation in shown]
        return Batch(images, self.files.labels[indices], indices, *request[1:], tuple(unreadable), annotations)

    def _read(self, path: str, index: int) -> tuple[Tensor, Annotation]:
        image = read_stored(path, self.max_pixels)
        height, width = image.shape[1:]
        said = tuple(self.files.sizes[index].tolist())
        if said not in (SIZE_UNKNOWN, (width, height)):
            raise ValueError(f"it is {width}x{height}, and its annotations are for {said[0]}x{said[1]}")
        annotation = self.files.objects.annotation(index)
        if mask := os.fsdecode(self.files.masks[index]):
            try:
                annotation["mask"] = read_mask(mask, (width, height), self.num_classes)
            except (OSError, ValueError) as error:
                raise ValueError(f"its mask {mask}: {reason(error)}") from error
        return image, annotation


def files_of(images: list[Annotated]) -> AnnotatedFiles:
    return AnnotatedFiles(
        np.array([os.fsencode(image.path) for image in images]),
        torch.tensor([label_of(image.things) for image in images], dtype=torch.int64),
        Objects.of([image.things for image in images]),
        torch.tensor([image.size for image in images], dtype=torch.int64).reshape(-1, 2),
        np.array([os.fsencode(image.mask) for image in images]),
    )


def with_objects(images: list[Annotated]) -> list[Annotated]:
    """The images to train on: those with an object that counts, and without boxes of no area."""
    sound = [image._replace(things=[t for t in image.things if area(t.box) > 0]) for image in images]
    if flat := things_in(images) - things_in(sound):
        log.warning("%d box(es) of no area are left out of the training", flat)
    kept = [image for image in sound if not all(thing.left_out for thing in image.things)]
    if len(kept) < len(sound):
        log.info("%d image(s) without an object that counts are left out of the training", len(sound) - len(kept))
    return kept


def things_in(images: Iterable[Annotated]) -> int:
    return sum(len(image.things) for image in images)


def read_stored(path: str, max_pixels: int) -> Tensor:
    """Read an image file into (3, H, W) uint8, its pixels as they are stored, whatever its EXIF data say.

    Raises:
        OSError, RuntimeError, ValueError: the file cannot be read, or `decode` refuses it.
    """
    content = np.fromfile(path, np.uint8)
    image = decode(content, max_pixels)
    return TURNED_BACK.get(orientation(content), Tensor.contiguous)(image).contiguous()


def read_mask(path: str, size: tuple[int, int], num_classes: int) -> Tensor:
    """Read a PNG of palette indices into a mask (H, W) uint8; `size` is its image's width and height.

    Raises:
        OSError, ValueError: the file cannot be read, or is not a mask of that size and those classes.
    """
    content = np.fromfile(path, np.uint8)
    width, height = still_size(content)
    if (width, height) != size:
        raise ValueError(f"it is {width}x{height}, the image {size[0]}x{size[1]}")
    with opened(content) as image:
        if image.format != "PNG" or image.mode not in ("P", "L"):
            raise ValueError(f"it is {image.format} in mode {image.mode}, not PNG with an index for each pixel")
        mask = torch.from_numpy(np.array(image))
    wrong = mask[(mask > num_classes) & (mask != UNKNOWN)]
    if len(wrong):
        raise ValueError(f"it has index {int(wrong[0])}, not 0 to {num_classes} or {UNKNOWN}")
    return mask
