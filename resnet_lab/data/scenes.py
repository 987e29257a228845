"""Scenes: real small images laid on a canvas at random places and sizes, with boxes and masks that are exact."""

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from resnet_lab.checks import check_at_least, check_choice, check_positive
from resnet_lab.data.annotations import BACKGROUND, Annotation, mirror_half
from resnet_lab.data.batches import Batch, Images, Request, View, stack
from resnet_lab.data.datasets import CIFAR10, Digits, FashionMNIST
from resnet_lab.data.module import ImagesInMemory
from resnet_lab.data.streams import generator

OBJECTS: dict[str, type[ImagesInMemory]] = {"digits": Digits, "fashion_mnist": FashionMNIST, "cifar10": CIFAR10}
INK = 64  # of 255: a grey object is where its enlarged image is at least as bright
NOISE = 48  # of 255: grey levels of the background, from 0
HIDDEN = 0.4  # the largest part of a box that another one may cover
TRIES = 50  # to find a place for an object; then it is left out, but for the first


class Scenery(NamedTuple):
    """Scenes in memory, N of them with at most m objects.

    `pixels` (N, C, S, S) uint8; `labels` (N,) int64, the class of the largest object; `boxes` (N, m, 4) float32;
    `classes` (N, m) int64, -1 where there is no object; `masks` (N, S, S) uint8, as in `data.annotations`.
    """

    pixels: Tensor
    labels: Tensor
    boxes: Tensor
    classes: Tensor
    masks: Tensor


class Scenes(ImagesInMemory):
    """Scenes of handwritten digits, clothing or photographs; those of digits need no download.

    A scene is a function of (scene_seed, part, index). Training and test scenes are made of training and test
    images. Digits and clothing are the bright pixels of their images, photographs are whole. A later object covers
    an earlier one, at most two fifths of either box.

    Args:
        objects: digits, fashion_mnist or cifar10.
        image_size: side of a scene in pixels.
        count: least and greatest number of objects in a scene.
        sizes: least and greatest side of an object's image in pixels.
        train_images, test_images: number of scenes.
        scene_seed: of the scenes; a run's seed leaves them as they are.
        settings: those of `ImagesInMemory`.

    Raises:
        ValueError: a setting is out of its range.
        UserError: files of the objects are missing.
    """

    num_classes = 10
    tasks: tuple[str, ...] = ("classification", "detection", "localization", "segmentation")
    part_names: ClassVar[tuple[str, str]] = ("train", "test")

    def __init__(
        self,
        objects: str = "digits",
        image_size: int = 96,
        count: tuple[int, int] = (1, 4),
        sizes: tuple[int, int] = (16, 48),
        train_images: int = 2000,
        test_images: int = 500,
        scene_seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        for name in ("crop_padding", "policy"):
            if settings.get(name):
                raise ValueError(f"{name} is for images without boxes, got {settings[name]!r}; leave it out")
        check_choice("objects", objects, OBJECTS)
        check_at_least(0, scene_seed=scene_seed)
        check_positive(image_size=image_size, train_images=train_images, test_images=test_images)
        self.objects, self.image_size = objects, image_size
        self.in_channels = OBJECTS[objects].in_channels
        self.count, self.sizes, self.scene_seed = (
            check_range("count", count),
            check_range("sizes", sizes),
            scene_seed,
        )
        if self.sizes[1] > image_size:
            raise ValueError(f"sizes must not exceed image_size={image_size}, got {list(sizes)}")
        self.numbers = (train_images, test_images)
        # one object in each scene is what localization takes
        self.tasks = tuple(task for task in self.tasks if task != "localization" or self.count == (1, 1))

    def load(self) -> tuple[Scenery, Scenery]:  # type: ignore[override]
        source = OBJECTS[self.objects](root=str(self.root))
        source.may_download = self.may_download
        parts = zip(self.part_names, source.load(), self.numbers, strict=True)
        train, test = (self._scenery(name, images, number) for name, images, number in parts)
        return train, test

    def dataset(self, part: Scenery, training: bool = False, view: View | None = None) -> Dataset[Batch]:  # type: ignore[override]
        return BatchedScenes(part, view)

    def trainer_dataset(self, part: Scenery, training: bool = False) -> Dataset[Batch]:  # type: ignore[override]
        return self.dataset(part, training)  # on the host, with the annotations

    def augmented(self, batch: Batch) -> Batch:
        """Mirror half of the scenes with their annotations, if `flip`."""
        if not self.flip:
            return batch
        images, annotations = mirror_half(batch.images, batch.annotations, self.seed, batch.epoch, batch.indices)
        return batch._replace(images=torch.stack(images), annotations=annotations)

    def _scenery(self, name: str, images: Images, number: int) -> Scenery:
        scenes = [
            self._scene(images, generator(f"scene {name}", self.scene_seed, index)) for index in range(number)
        ]
        pixels, boxes, classes, masks = (torch.stack(column) for column in zip(*scenes, strict=True))
        areas = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
        largest = areas.argmax(1, keepdim=True)
        return Scenery(pixels, classes.gather(1, largest)[:, 0], boxes, classes, masks)

    def _scene(self, images: Images, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The pixels, boxes, classes and mask of one scene."""
        side, most = self.image_size, self.count[1]
        pixels = torch.randint(NOISE, (self.in_channels, side, side), generator=random, dtype=torch.uint8)
        mask = torch.full((side, side), BACKGROUND, dtype=torch.uint8)
        boxes, classes = torch.zeros(most, 4), torch.full((most,), -1)
        placed = 0
        for _ in range(between(*self.count, random)):
            index = between(0, len(images.labels) - 1, random)
            shown = enlarged(images.pixels[index], between(*self.sizes, random))
            inside = inked(shown)
            spot = self._spot(inside, boxes[:placed], random)
            if spot is None:
                continue
            top, left, boxes[placed] = spot
            classes[placed] = images.labels[index]
            window = (..., slice(top, top + shown.shape[1]), slice(left, left + shown.shape[2]))
            pixels[window] = torch.where(inside, shown, pixels[window])
            mask[window] = torch.where(inside, (1 + classes[placed]).to(torch.uint8), mask[window])
            placed += 1
        return pixels, boxes, classes, mask

    def _spot(self, inside: Tensor, boxes: Tensor, random: torch.Generator) -> tuple[int, int, Tensor] | None:
        """The top left corner and the box of an object at a place where it hides little; None if none is found."""
        tight = bounds(inside)
        for _ in range(TRIES):
            top, left = (between(0, self.image_size - length, random) for length in inside.shape)
            box = tight + torch.tensor([left, top, left, top])
            if not len(boxes) or hidden(box, boxes) <= HIDDEN:
                return top, left, box
        return None


class BatchedScenes(Dataset[Batch]):
    """Scenes in memory with their annotations, looked up a whole batch at a time."""

    def __init__(self, scenes: Scenery, view: View | None = None) -> None:
        self.scenes, self.view = scenes, view

    def __getitem__(self, request: Request) -> Batch:
        pixels, labels, *annotated = (column[request.indices] for column in self.scenes)
        annotations = [annotation(*of_one) for of_one in zip(*annotated, strict=True)]
        shown = pixels if self.view is None else stack([self.view(image) for image in pixels])
        return Batch(shown, labels, *request, annotations=annotations)


def annotation(boxes: Tensor, classes: Tensor, mask: Tensor) -> Annotation:
    there = classes >= 0
    left_out = torch.zeros(int(there.sum()), dtype=torch.bool)
    return {"boxes": boxes[there], "labels": classes[there], "left_out": left_out, "mask": mask}


def between(least: int, most: int, random: torch.Generator) -> int:
    """A uniform integer, `most` included."""
    return int(torch.randint(least, most + 1, (), generator=random))


def enlarged(image: Tensor, side: int) -> Tensor:
    """Resize (C, H, W) uint8 to a square of so many pixels."""
    resized = F.interpolate(image[None].float(), size=(side, side), mode="bilinear", antialias=True)[0]
    return resized.round().clamp(0, 255).to(torch.uint8)


def inked(image: Tensor) -> Tensor:
    """Where the object is in its image (C, H, W): (H, W) bool. All of a photograph is."""
    if len(image) > 1 or not (image >= INK).any():
        return torch.ones(image.shape[1:], dtype=torch.bool)
    return image[0] >= INK


def bounds(inside: Tensor) -> Tensor:
    """The box (4,) round the pixels that are inside."""
    rows, columns = inside.any(1).nonzero()[:, 0], inside.any(0).nonzero()[:, 0]
    return torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def hidden(box: Tensor, boxes: Tensor) -> float:
    """The largest part of the box or of one of `boxes` (n, 4) that the other covers."""
    overlap = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])).clamp(min=0).prod(1)
    smaller = torch.minimum((box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(1))
    return float((overlap / smaller).max())


def check_range(name: str, values: Any) -> tuple[int, int]:
    numbers = isinstance(values, list | tuple) and len(values) == 2 and all(type(v) is int for v in values)
    if not numbers or not 1 <= values[0] <= values[1]:
        raise ValueError(f"{name} must be two positive integers, the least and the greatest, got {values!r}")
    return values[0], values[1]
