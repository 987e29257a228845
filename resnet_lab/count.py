"""Parameters and multiply-adds of a network, counted by torch."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


class Layer(NamedTuple):
    """One row of the table: a leaf module's output shape (C, H, W) and what it costs for one image."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


def count_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def count_multiply_adds(net: nn.Module, shape: tuple[int, int, int]) -> int:
    """Of the convolutions and linear layers, for one image of that (C, H, W): half of torch's count of
    floating point operations."""
    return sum(layer.multiply_adds for layer in count_layers(net, shape))


def count_layers(net: nn.Module, shape: tuple[int, int, int]) -> list[Layer]:
    """The leaf modules in the order of their use, for one image of that (C, H, W)."""
    layers: list[Layer] = []
    counter = FlopCounterMode(display=False)
    before = 0

    def start(*_: object) -> None:
        nonlocal before
        before = counter.get_total_flops()

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        flops = counter.get_total_flops() - before
        parameters = count_parameters(module)
        shape = tuple(output.shape[1:])
        layers.append(Layer(names[module], type(module).__name__, shape, parameters, flops // 2))

    names = {module: name for name, module in net.named_modules() if not any(module.children())}
    handles = [m.register_forward_pre_hook(start) for m in names] + [m.register_forward_hook(note) for m in names]
    training = net.training
    net.eval()
    with torch.no_grad(), counter:
        net(torch.zeros(1, *shape, device=next(net.parameters()).device))
    net.train(training)
    for handle in handles:
        handle.remove()
    return layers
