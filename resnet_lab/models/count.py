"""The cost of a network: parameters, multiply-adds as counted by torch, and the memory of its activations."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from resnet_lab.checks import UserError
from resnet_lab.models.activation_checkpointing import buffers_kept
from resnet_lab.models.structure import CONTAINERS, elements
from resnet_lab.models.structure import layers as layers_of

Shape = tuple[int, int, int]

NAMES_IN_TABLE_1 = {
    "stem": "conv1",
    "stage1": "conv2_x",
    "stage2": "conv3_x",
    "stage3": "conv4_x",
    "stage4": "conv5_x",
    "head": "fc",
}
LONGEST_NOTATION = 200  # characters


class Layer(NamedTuple):
    """A layer, its output shape (C, H, W), and its cost for one image."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


class Stage(NamedTuple):
    """A row in the style of Table 1: a part of the net, the size (H, W) of its output, and its cost for one image.

    The size is None for a part that runs in training only.
    """

    name: str
    output_size: tuple[int, ...] | None
    structure: str
    parameters: int
    multiply_adds: int


def count_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def count_multiply_adds(net: nn.Module, shape: Shape) -> int:
    """Count the multiply-adds of convolutions and linear layers for one image (C, H, W): half of torch's FLOPs.

    The paper calls these FLOPs in Table 1 and Section 3.3; projections are included. Its 15.3e9 for VGG-16 are
    the convolutions alone (15.47e9 with the linear layers); its 19.6e9 for VGG-19 include the linear layers.

    Raises:
        UserError: the net does not accept such an image.
    """
    return sum(layer.multiply_adds for layer in count_layers(net, shape))


def count_layers(net: nn.Module, shape: Shape) -> list[Layer]:
    """List the layers in order of use, with their cost for one image (C, H, W).

    Raises:
        UserError: the net does not accept such an image.
    """
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

    names = {module: name for name, module in layers_of(net).items()}
    handles = [m.register_forward_pre_hook(start) for m in names] + [m.register_forward_hook(note) for m in names]
    try:
        with unchanged(net), torch.no_grad(), counter:
            run_on_zeros(net.eval(), 1, shape)
    finally:
        for handle in handles:
            handle.remove()
    return layers


def check_takes_images(net: nn.Module, shape: Shape) -> None:
    """Raise UserError unless the net accepts an image (C, H, W)."""
    with unchanged(net), torch.no_grad():
        run_on_zeros(net.eval(), 1, shape)


def count_activation_bytes(net: nn.Module, shape: Shape) -> int:
    """Count the bytes per image (C, H, W) that autograd keeps in training until the backward pass.

    These are the image itself and whatever the derivatives of the layers need, auxiliary classifiers included, but
    not parameters and buffers. The count is half of that for two images, because batch normalization cannot
    be trained on a single value.

    Raises:
        UserError: the net does not accept such an image.
    """
    kept = set()

    def keep(tensor: Tensor) -> Tensor:
        kept.add(tensor.untyped_storage())
        return tensor

    with unchanged(net), torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        run_on_zeros(net.train(), 2, shape)
        own = {tensor.untyped_storage() for tensor in (*net.parameters(), *net.buffers())}
    return sum(storage.nbytes() for storage in kept - own) // 2


def count_stages(net: nn.Module, layers: list[Layer]) -> list[Stage]:
    """List the parts of the net with the cost of their layers, under the paper's names for the nets of Table 1."""
    in_table_1 = [name for name, _ in net.named_children()] == list(NAMES_IN_TABLE_1)
    stages = []
    for name, part in parts(net):
        inside = [layer for layer in layers if f"{layer.name}.".startswith(f"{name}.")]
        # logits have no size
        size = (inside[-1].output_shape[1:] or (1, 1)) if inside else None
        shown = f"{NAMES_IN_TABLE_1[name]} ({name})" if in_table_1 else name
        multiply_adds = sum(layer.multiply_adds for layer in inside)
        stages.append(Stage(shown, size, notation(part), count_parameters(part), multiply_adds))
    return stages


def parts(net: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the children of the net by name, opening containers whose notation is too long for a line."""
    for name, child in net.named_children():
        if type(child) in CONTAINERS and len(notation(child)) > LONGEST_NOTATION:
            yield from parts(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def notation(module: nn.Module) -> str:
    """Write a module as in Table 1: `[1x1, 64; 3x3, 64; 1x1, 256] x 3` is three blocks of these convolutions, in
    order of definition, without the projections of shortcuts."""
    inside = [element for _, element in elements(module)] if type(module) in CONTAINERS else [module]
    named = [text for text in map(element_notation, inside) if text]
    texts = [(text, len(list(equal))) for text, equal in groupby(named)]
    return "; ".join(text if times == 1 else f"[{text.strip('[]')}] x {times}" for text, times in texts)


def element_notation(element: nn.Module) -> str:
    """Write a block in brackets, or a single layer; empty if the paper's table would not name it."""
    layers = [layer for layer in leaves(element) if layer_notation(layer)]
    if len(layers) == 1:
        return layer_notation(layers[0])
    # without strides, so that the first block of a stage equals the others
    texts = [layer_notation(layer, with_stride=False) for layer in layers]
    return f"[{'; '.join(texts)}]" if texts else ""


def leaves(module: nn.Module) -> Iterator[nn.Module]:
    if not any(module.children()):
        yield module
    for name, child in module.named_children():
        if name != "shortcut":
            yield from leaves(child)


def layer_notation(layer: nn.Module, with_stride: bool = True) -> str:
    if isinstance(layer, nn.Linear):
        return f"{layer.out_features}-d fc"
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return "average pool"
    if not isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        return ""
    kind = {nn.MaxPool2d: " max pool", nn.AvgPool2d: " average pool"}.get(type(layer))
    stride = side(layer.stride)[0] if with_stride else 1
    text = "x".join(map(str, side(layer.kernel_size))) + (kind or f", {layer.out_channels}")
    return text if stride == 1 else f"{text}, stride {stride}"


def side(size: Any) -> tuple[int, ...]:
    return tuple(size) if isinstance(size, tuple) else (size, size)


@contextmanager
def unchanged(net: nn.Module) -> Iterator[None]:
    """Restore the buffers, the mode (training or evaluation) and the random state at the end."""
    training = {module: module.training for module in net.modules()}
    device = next(net.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), buffers_kept(net):
        try:
            yield
        finally:
            for module, before in training.items():
                module.training = before


def run_on_zeros(net: nn.Module, images: int, shape: Shape) -> None:
    weight = next(net.parameters())
    try:
        net(torch.zeros(images, *shape, device=weight.device, dtype=weight.dtype))
    except RuntimeError as error:
        raise UserError(
            f"model: {type(net).__name__} does not take images of {'x'.join(map(str, shape))} "
            f"({str(error).splitlines()[0].rstrip('.')}); "
            "where a model has a stem, model.stem=cifar fits it to images of about 32 pixels"
        ) from error
