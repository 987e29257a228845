"""Views of an image: in training one random crop, in evaluation those of the protocol."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from resnet_lab.data.streams import random_integers

STEPS = 1 << 30


class Draw(NamedTuple):
    """Random choices for an image: the shorter side in pixels, the position of the crop (0 to 1 in each
    direction), and whether it is mirrored."""

    side: int
    top: float
    left: float
    mirrored: bool


class RandomCrop:
    """A crop of `size` pixels from the image with its shorter side resized to a random length (Section 3.4),
    mirrored half of the time if `flip`.

    The draws depend only on (seed, epoch, image). Only the part that the crop shows is resized.
    """

    def __init__(self, shorter_side: tuple[int, int], size: int, flip: bool, seed: int) -> None:
        self.shorter_side, self.size, self.flip, self.seed = shorter_side, size, flip, seed

    def draws(self, epoch: int, indices: Tensor) -> list[Draw]:
        """Draw for each image of a batch, given its index in the dataset."""
        shortest, longest = self.shorter_side

        def draw(below: int, stream: str) -> Any:
            return random_integers(below, self.seed, epoch, indices, stream)

        sides = (shortest + draw(longest - shortest + 1, "shorter side")).tolist()
        tops, lefts = ((draw(STEPS, stream) / STEPS).tolist() for stream in ("crop top", "crop left"))
        mirrored = draw(2, "mirror").bool().tolist() if self.flip else [False] * len(sides)
        return [Draw(*drawn) for drawn in zip(sides, tops, lefts, mirrored, strict=True)]

    def __call__(self, image: Tensor, draw: Draw) -> list[Tensor]:
        height, width = image.shape[1:]
        window = max(1, min(round(self.size * min(height, width) / draw.side), height, width))
        top, left = int(draw.top * (height - window + 1)), int(draw.left * (width - window + 1))
        shown = image[:, top : top + window, left : left + window]
        resized: Tensor = T.resize(shown, [self.size, self.size], antialias=True)
        return [resized.flip(-1) if draw.mirrored else resized]


class CenterCrop:
    """The crop of `size` pixels from the middle of the image, its shorter side resized to `side`."""

    def __init__(self, side: int, size: int) -> None:
        self.side, self.size = side, size

    def __call__(self, image: Tensor, draw: None = None) -> list[Tensor]:
        return [T.center_crop(resize(image, self.side), [self.size, self.size])]


class TenCrop:
    """The four corners and the middle of the image and of its mirror image, as torchvision takes them.

    The paper refers to its references 21 and 41 for the protocol. Where the margin around the middle is odd, the
    middle of the mirror image is one pixel off the mirror image of the middle.
    """

    def __init__(self, side: int, size: int) -> None:
        self.side, self.size = side, size

    def __call__(self, image: Tensor, draw: None = None) -> list[Tensor]:
        return list(T.ten_crop(resize(image, self.side), [self.size, self.size]))


class MultiScale:
    """The whole image, its shorter side resized to each of `sides`, with mirror images if `mirrored`."""

    def __init__(self, sides: list[int], mirrored: bool) -> None:
        self.sides, self.mirrored = sides, mirrored

    def __call__(self, image: Tensor, draw: None = None) -> list[Tensor]:
        scaled = [resize(image, side) for side in self.sides]
        return scaled + [image.flip(-1) for image in scaled] if self.mirrored else scaled


def resize(image: Tensor, side: int) -> Tensor:
    """Resize (C, H, W) to a shorter side of `side` pixels, keeping its proportions."""
    height, width = image.shape[1:]
    shorter = min(height, width)
    if shorter == side:
        return image
    shape = [max(1, round(length * side / shorter)) for length in (height, width)]
    resized: Any = T.resize(image, shape, antialias=True)
    return torch.as_tensor(resized)
