"""How strongly the layers of a net respond (Section 4.2, Figure 7)."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from resnet_lab.analyses.measured import Moments, Rows, convolutions, evaluated, normalizations
from resnet_lab.checks import UserError, check_positive
from resnet_lab.data import ImageData


def responses(net: nn.Module, data: ImageData, part: str = "train", images: int = 1000) -> Rows:
    """The standard deviation of each 3x3 layer's output, after batch normalization, before ReLU or addition.

    It is taken over all images, channels and positions, in evaluation mode. Where no batch normalization follows a
    layer at once, as none does the second one of a pre-activation block, it is that of the layer's own output.

    Args:
        part: train, val or test.
        images: at most so many of them, evenly spaced over the part, not augmented.

    Returns:
        One row per 3x3 layer in the order of computation: `layer` (from 1), `name`, `std`, `mean`, and `rank`,
        which is 1 for the largest `std`.

    Raises:
        UserError: the net has no 3x3 layer.
        ValueError: there is no such part, or `images` is not a positive integer.
    """
    check_positive(images=images)
    watched = Watched(evaluated(net))
    for pixels, _ in data.batches(part, images=images):
        watched.add(pixels)
    by_size = sorted(watched.moments, key=lambda name: -watched.moments[name].std)
    return [
        {"layer": layer, "name": name, "std": found.std, "mean": found.mean, "rank": by_size.index(name) + 1}
        for layer, (name, found) in enumerate(watched.moments.items(), 1)
    ]


class Watched:
    """A net whose hooks reduce what they see at once: a ReLU in place is going to change it."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.moments: dict[str, Moments] = {}
        self.seen: dict[str, Moments] = {}  # with the batch that is under way
        self.latest: tuple[str, Tensor] | None = None  # 3x3 layer, and its output as long as nothing else followed
        watched = {name: layer for name, layer in convolutions(net).items() if layer.kernel_size == (3, 3)}
        if not watched:
            raise UserError(
                f"{type(net).__name__} has no 3x3 layer, whose response could be taken; choose another net"
            )
        for name, layer in watched.items():
            layer.register_forward_hook(partial(self.convolved, name))
        for normalization in normalizations(net).values():
            normalization.register_forward_hook(self.normalized)

    def add(self, pixels: Tensor) -> None:
        with torch.no_grad():
            self.net(pixels)
        self.moments, self.latest = self.moments | self.seen, None

    def convolved(self, name: str, _: nn.Module, inputs: Any, output: Tensor) -> None:
        self.seen[name] = self.moments.get(name, Moments()).plus(output)
        self.latest = name, output

    def normalized(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self.latest and inputs[0] is self.latest[1]:
            name = self.latest[0]
            assert isinstance(layer, nn.BatchNorm2d)
            before = nn.BatchNorm2d.forward(layer, inputs[0])  # timm's layers go on to a ReLU
            self.seen[name] = self.moments.get(name, Moments()).plus(before)
