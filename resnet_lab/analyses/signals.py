"""Whether signals or gradients vanish on their way through a net (Section 4.1)."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.analyses.measured import Moments, Rows, convolutions, with_batch_statistics
from resnet_lab.checks import UserError, check_positive
from resnet_lab.data import ImageData


def signals(
    net: nn.Module, data: ImageData, part: str = "train", images: int = 512, batch_size: int = 128
) -> Rows:
    """What goes forward through each convolution and what comes back, those of shortcuts left out.

    The loss is the mean cross-entropy of a batch, with batch normalization by that batch as in training, without
    dropout. Norms are Euclidean, of the gradient of that loss; over several batches the root of their mean square.
    They grow with the size of the output and of the weights: compare layers of one stage, or
    `relative_gradient`.

    Args:
        part: train, val or test.
        images: at most so many of them, evenly spaced over the part, not augmented.
        batch_size: images a batch.

    Returns:
        One row per convolution in the order of computation: `layer` (from 1), `name`, `output_std` (before
        normalization), `gradient_norm` (at the output), `weight_gradient_norm`, `weight_norm`,
        `relative_gradient` (the quotient of the two), and `dead_inputs`, the share of its input channels that
        are zero wherever one looks, as behind a dead ReLU.

    Raises:
        UserError: the net has no convolution.
        ValueError: there is no such part, or a number is not a positive integer.
    """
    check_positive(images=images, batch_size=batch_size)
    changed = with_batch_statistics(net).requires_grad_(True)
    found = {name: Passed(layer) for name, layer in convolutions(changed).items()}
    if not found:
        raise UserError(f"{type(net).__name__} has no convolution; choose another net")
    order: dict[str, Passed] = {}
    for name, passed in found.items():
        passed.layer.register_forward_hook(partial(passed.look, order, name))
    for pixels, labels in data.batches(part, batch_size, images):
        changed.zero_grad()
        with torch.enable_grad():
            F.cross_entropy(changed(pixels), labels).backward()  # type: ignore[no-untyped-call]
        for passed in order.values():
            passed.end_batch()
    return [{"layer": layer, "name": name, **order[name].row()} for layer, name in enumerate(order, 1)]


class Passed:
    """What has passed through one convolution."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self.layer = layer
        self.output = Moments()
        self.dead: Tensor = torch.ones(layer.in_channels, dtype=torch.bool)
        self.gradients: list[float] = []
        self.weight_gradients: list[float] = []

    def look(self, order: dict[str, "Passed"], name: str, _: nn.Module, inputs: Any, output: Tensor) -> None:
        order.setdefault(name, self)
        self.output = self.output.plus(output)
        self.dead &= (inputs[0] == 0).all(dim=3).all(dim=2).all(dim=0)
        output.register_hook(self.came_back)  # type: ignore[no-untyped-call]

    def came_back(self, gradient: Tensor) -> None:
        self.gradients.append(float(gradient.norm()))

    def end_batch(self) -> None:
        if self.layer.weight.grad is not None:
            self.weight_gradients.append(float(self.layer.weight.grad.norm()))

    def row(self) -> dict[str, float]:
        weight, gradient = float(self.layer.weight.detach().norm()), root_mean_square(self.weight_gradients)
        return {
            "output_std": self.output.std,
            "gradient_norm": root_mean_square(self.gradients),
            "weight_gradient_norm": gradient,
            "weight_norm": weight,
            "relative_gradient": gradient / weight if weight else math.nan,
            "dead_inputs": float(self.dead.double().mean()),
        }


def root_mean_square(values: list[float]) -> float:
    return math.sqrt(math.fsum(value**2 for value in values) / len(values)) if values else math.nan
