"""What of an image a network is to see: in training one random crop, in evaluation what the protocol says."""

from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from resnet_lab.data.augment import random_integers


class RandomCrop:
    """A crop of `size` pixels from the image with its shorter side resized to a random length (Section 3.4).

    Which length and which crop is a function of (seed, epoch, image). Only what the crop shows is resized.
    """

    def __init__(self, shorter_side: tuple[int, int], size: int, seed: int) -> None:
        self.shorter_side, self.size, self.seed = shorter_side, size, seed

    def __call__(self, image: Tensor, epoch: int, index: Tensor) -> list[Tensor]:
        shortest, longest = self.shorter_side
        side = shortest + self._draw(longest - shortest + 1, epoch, index, draw=0)
        height, width = image.shape[1:]
        window = min(round(self.size * min(height, width) / side), height, width)
        top = self._draw(height - window + 1, epoch, index, draw=1)
        left = self._draw(width - window + 1, epoch, index, draw=3)
        shown = image[:, top : top + window, left : left + window]
        return [T.resize(shown, [self.size, self.size], antialias=True)]

    def _draw(self, below: int, epoch: int, index: Tensor, draw: int) -> int:
        return int(random_integers(below, self.seed, epoch, index, draw))


class CenterCrop:
    """The crop of `size` pixels from the middle of the image, its shorter side resized to `side`."""

    def __init__(self, side: int, size: int) -> None:
        self.side, self.size = side, size

    def __call__(self, image: Tensor) -> list[Tensor]:
        return [T.center_crop(resize(image, self.side), [self.size, self.size])]


class TenCrop:
    """Four corners and the middle, and their mirror images (the paper's references 21 and 41)."""

    def __init__(self, side: int, size: int) -> None:
        self.side, self.size = side, size

    def __call__(self, image: Tensor) -> list[Tensor]:
        return list(T.ten_crop(resize(image, self.side), [self.size, self.size]))


class MultiScale:
    """The whole image, its shorter side resized to each of `sides`; with mirror images if `mirrored`."""

    def __init__(self, sides: list[int], mirrored: bool) -> None:
        self.sides, self.mirrored = sides, mirrored

    def __call__(self, image: Tensor) -> list[Tensor]:
        scaled = [resize(image, side) for side in self.sides]
        return scaled + [image.flip(-1) for image in scaled] if self.mirrored else scaled


def resize(image: Tensor, side: int) -> Tensor:
    """(C, H, W) with its shorter side so many pixels long, its proportions kept."""
    height, width = image.shape[1:]
    shorter = min(height, width)
    if shorter == side:
        return image
    shape = [max(1, round(length * side / shorter)) for length in (height, width)]
    resized: Any = T.resize(image, shape, antialias=True)
    return torch.as_tensor(resized)
