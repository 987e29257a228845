"""What the layers of a net are made of, beside their weights: the normalization and the nonlinearity."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import nn

from resnet_lab.checks import check_choice

NORMS: dict[str, Callable[[int], nn.Module]] = {"batch": nn.BatchNorm2d, "none": nn.Identity}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


class Layer(NamedTuple):
    """What follows a convolution of so many channels."""

    normalization: Callable[[int], nn.Module]
    activation: Callable[[], nn.Module]

    @property
    def bias(self) -> bool:
        """Whether the convolution has a bias; batch normalization would only subtract it again."""
        return self.normalization is nn.Identity


def layer_of(norm: str, activation: str) -> Layer:
    """Raise ValueError if a name is unknown."""
    check_choice("norm", norm, NORMS)
    check_choice("activation", activation, ACTIVATIONS)
    return Layer(NORMS[norm], ACTIVATIONS[activation])


BN_RELU = layer_of("batch", "relu")
