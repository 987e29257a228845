"""What the gates of a highway net do (Srivastava, Greff and Schmidhuber, 2015, Section 4)."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from resnet_lab.analyses.measured import Moments, Rows, error_of, evaluated
from resnet_lab.checks import UserError, check_positive
from resnet_lab.data import ImageData
from resnet_lab.models.highway import HighwayLayer
from resnet_lab.models.structure import blocks

SHUT, OPEN = 0.1, 0.9  # a gate that is nearer to its end than this counts as shut or open


def gates(net: nn.Module, data: ImageData, part: str = "train", images: int = 1000) -> Rows:
    """How far the transform gates T of a highway net are open, and what the net makes of them.

    A layer is H(x) T(x) + x (1 - T(x)): with its gates shut it passes x on, with its gates open it is a plain
    layer. The net is in evaluation mode.

    Args:
        part: train, val or test.
        images: at most so many of them, evenly spaced over the part, not augmented.

    Returns:
        One row per highway layer: `block` (from 1), `name`, `openness`, the mean of T over images, channels and
        positions; `shut` and `open`, the shares of T below 0.1 and above 0.9; and the error in percent of the net
        as it is (`error`), with this layer's gates shut (`error_shut`), and with them open (`error_open`).

    Raises:
        UserError: the net has no gates.
        ValueError: there is no such part, or `images` is not a positive integer.
    """
    check_positive(images=images)
    watched = evaluated(net)
    found = {name: Openness(layer) for name, layer in gated(watched).items()}
    error = error_of(watched, data, part, images)
    return [
        {
            "block": number,
            "name": name,
            **openness.row(),
            "error": error,
            "error_shut": error_of(forced(net, name, -math.inf), data, part, images),
            "error_open": error_of(forced(net, name, math.inf), data, part, images),
        }
        for number, (name, openness) in enumerate(found.items(), 1)
    ]


def gated(net: nn.Module) -> dict[str, HighwayLayer]:
    found = {name: block for name, block in blocks(net).items() if isinstance(block, HighwayLayer)}
    if not found:
        raise UserError(f"{type(net).__name__} has no gates; take highway")
    return found


class Openness:
    """Of the gates of one layer, over all that passes through it."""

    def __init__(self, layer: HighwayLayer) -> None:
        self.value, self.shut, self.open = Moments(), Moments(), Moments()
        layer.gate.register_forward_hook(self.look)

    def look(self, _: nn.Module, inputs: Any, output: Tensor) -> None:
        value = torch.sigmoid(output)
        self.value = self.value.plus(value)
        self.shut = self.shut.plus((value < SHUT).double())
        self.open = self.open.plus((value > OPEN).double())

    def row(self) -> dict[str, float]:
        return {"openness": self.value.mean, "shut": self.shut.mean, "open": self.open.mean}


def forced(net: nn.Module, name: str, bias: float) -> nn.Module:
    """A copy whose gates in one layer are all open (infinite bias) or shut."""
    changed = evaluated(net)
    gate = gated(changed)[name].gate
    with torch.no_grad():
        gate.weight.zero_()
        if gate.bias is not None:
            gate.bias.fill_(bias)
    return changed
