"""The objects of many images in a few tensors, and the checks of their boxes."""

from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from resnet_lab.data.annotations import Annotation

ROUNDING = 1  # pixels by which a box may reach beyond its image; it is cut off there

Box = tuple[float, float, float, float]  # x1, y1, x2, y2


class Thing(NamedTuple):
    """An object as it is read from a file: its box, its class from 0, whether it is left out."""

    box: Box
    label: int
    left_out: bool


@dataclass(frozen=True)
class Objects:
    """The objects of N images: `ends` (N,) are where each image's end among all the boxes, labels and left_out."""

    boxes: Tensor
    labels: Tensor
    left_out: Tensor
    ends: Tensor

    @classmethod
    def of(cls, images: list[list[Thing]]) -> "Objects":
        things = [thing for image in images for thing in image]
        return cls(
            torch.tensor([thing.box for thing in things], dtype=torch.float32).reshape(-1, 4),
            torch.tensor([thing.label for thing in things], dtype=torch.int64),
            torch.tensor([thing.left_out for thing in things], dtype=torch.bool),
            torch.tensor(list(accumulate(map(len, images))), dtype=torch.int64),
        )

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, images: Tensor) -> "Objects":
        """The objects of the images with these indices."""
        counts = self.ends.diff(prepend=torch.zeros(1, dtype=torch.int64))[images]
        ends = counts.cumsum(0)
        first = self.ends[images] - counts
        rows = torch.arange(int(counts.sum())) + (first - ends + counts).repeat_interleave(counts)
        return Objects(self.boxes[rows], self.labels[rows], self.left_out[rows], ends)

    def annotation(self, image: int) -> Annotation:
        rows = slice(int(self.ends[image - 1]) if image else 0, int(self.ends[image]))
        return {
            "boxes": self.boxes[rows].clone(),
            "labels": self.labels[rows].clone(),
            "left_out": self.left_out[rows].clone(),
        }


def label_of(things: list[Thing]) -> int:
    """The class of the largest object, which stands for the image's; 0 where there is none."""
    return max(things, key=lambda thing: area(thing.box)).label if things else 0


def area(box: Box) -> float:
    x1, y1, x2, y2 = box
    return max(0.0, x2 - x1) * max(0.0, y2 - y1)


def is_inside(box: Box, size: tuple[int, int]) -> bool:
    """Whether a box lies in an image of that width and height, but for rounding."""
    (x1, y1, x2, y2), (width, height) = box, size
    return min(x1, y1) >= -ROUNDING and x2 <= width + ROUNDING and y2 <= height + ROUNDING


def clipped(box: Box, size: tuple[int, int]) -> Box:
    (x1, y1, x2, y2), (width, height) = box, size
    return max(0.0, x1), max(0.0, y1), min(float(width), x2), min(float(height), y2)
