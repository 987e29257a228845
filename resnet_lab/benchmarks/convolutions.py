"""The convolutions of a net by themselves, the part of an iteration that every training loop has to compute."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

Call = tuple[nn.Module, Tensor, Tensor]  # layer, input, output


class Convolution(NamedTuple):
    """A call of a convolution in an iteration; `gradient` stands in for that of the loss in its output."""

    layer: nn.Module
    input: Tensor
    gradient: Tensor

    def wanted(self) -> list[Tensor]:
        """The tensors, input and weights, whose gradients training needs."""
        return [tensor for tensor in (self.input, *self.layer.parameters()) if tensor.requires_grad]


def convolutions_of(net: nn.Module, images: Tensor) -> list[Convolution]:
    """Copy the convolutions that the net calls on images (N, C, H, W), in that order.

    Shapes, strides, memory layout and precision are those that they have in the net. The images themselves get no
    gradient, and neither do frozen weights.
    """
    calls: list[Call] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append((layer, inputs[0], output))

    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        net.train()(images)
    finally:
        for handle in handles:
            handle.remove()
    return [copied(*call) for call in calls]


def copied(layer: nn.Module, given: Tensor, output: Tensor) -> Convolution:
    """The same call in the precision of its output, so that nothing is left to convert."""
    own = given.detach().clone().to(output.dtype).requires_grad_(given.requires_grad)
    return Convolution(copy.deepcopy(layer).to(output.dtype), own, torch.randn_like(output.detach()))


def pass_through(convolutions: list[Convolution]) -> None:
    """All of them forward, then backward in reverse order, as in training; gradients are dropped at once."""
    outputs = [convolution.layer(convolution.input) for convolution in convolutions]
    for convolution in reversed(convolutions):
        output = outputs.pop()
        if wanted := convolution.wanted():
            torch.autograd.grad(output, wanted, convolution.gradient)
