"""What analyses share: copies of a net that may be changed, their convolutions and error, moments over batches."""

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from resnet_lab.data import ImageData
from resnet_lab.models.structure import layers

Rows = list[dict[str, Any]]


class Moments(NamedTuple):
    """Of all elements of the tensors that were added."""

    number: int = 0
    mean: float = 0.0
    squares: float = 0.0  # the sum of the squared differences from the mean

    @property
    def std(self) -> float:
        return math.sqrt(self.squares / self.number)

    def plus(self, tensor: Tensor) -> "Moments":
        """With the elements of one more tensor (Chan et al., 1979, which loses no digits to a large mean)."""
        variance, mean = (float(value) for value in torch.var_mean(tensor.detach(), correction=0))
        added, number = tensor.numel(), self.number + tensor.numel()
        difference = mean - self.mean
        squares = self.squares + variance * added + difference**2 * self.number * added / number
        return Moments(number, self.mean + difference * added / number, squares)


def evaluated(net: nn.Module) -> nn.Module:
    """A copy of the net in evaluation mode."""
    return copy.deepcopy(net).eval()


def with_batch_statistics(net: nn.Module) -> nn.Module:
    """A copy in evaluation mode, without dropout, that normalizes by the batch all the same, as in training.

    Layers that were frozen keep to their running statistics, as they did there.
    """
    changed = evaluated(net)
    for module in normalizations(changed).values():
        module.train(all(weights.requires_grad for weights in module.parameters()))
    return changed


def one_batch(data: ImageData, part: str, images: int) -> tuple[Tensor, Tensor]:
    """At most so many images of the part, evenly spaced, and their labels."""
    return next(iter(data.batches(part, images, images)))


def normalizations(net: nn.Module) -> dict[str, nn.Module]:
    """Its layers of batch normalization, by name."""
    return {name: layer for name, layer in layers(net).items() if isinstance(layer, _BatchNorm)}


def convolutions(net: nn.Module) -> dict[str, nn.Conv2d]:
    """Its convolutions by name, those of shortcuts left out."""
    found = {name: layer for name, layer in layers(net).items() if isinstance(layer, nn.Conv2d)}
    return {name: layer for name, layer in found.items() if "shortcut" not in name.split(".")}


def error_of(net: nn.Module, data: ImageData, part: str, images: int) -> float:
    """The error in percent of the net in its present mode."""
    wrong, total = 0, 0
    with torch.no_grad():
        for pixels, labels in data.batches(part, images=images):
            wrong += int((net(pixels).argmax(1) != labels).sum())
            total += len(labels)
    return 100 * wrong / total
