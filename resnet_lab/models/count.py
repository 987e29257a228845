"""What a network costs: parameters and multiply-adds, counted by torch, and the memory of its activations."""

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

# what the paper calls the parts of its ImageNet nets
TABLE_1 = {
    "stem": "conv1",
    "stage1": "conv2_x",
    "stage2": "conv3_x",
    "stage3": "conv4_x",
    "stage4": "conv5_x",
    "head": "fc",
}
LONGEST_STRUCTURE = 200  # characters


class Layer(NamedTuple):
    """A layer's output shape (C, H, W) and what it costs for one image."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


class Stage(NamedTuple):
    """A row as those of Table 1: a part of the net, its last layer's output (H, W), its cost for one image.

    The size is None for what runs in training only.
    """

    name: str
    output_size: tuple[int, ...] | None
    structure: str
    parameters: int
    multiply_adds: int


def count_parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def count_multiply_adds(net: nn.Module, shape: Shape) -> int:
    """Of the convolutions and linear layers, for one image of that (C, H, W): half of torch's count of
    floating point operations.

    These are the FLOPs of the paper's Table 1 and Section 3.3, with projections counted. For VGG-16 the paper's
    15.3e9 are the convolutions alone, which come to 15.47e9 with the linear layers; for VGG-19 its 19.6e9 have
    the linear layers, too.

    Raises:
        UserError: the net does not take such an image.
    """
    return sum(layer.multiply_adds for layer in count_layers(net, shape))


def count_layers(net: nn.Module, shape: Shape) -> list[Layer]:
    """The layers in the order of their use, for one image of that (C, H, W).

    Raises:
        UserError: the net does not take such an image.
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
            run(net.eval(), 1, shape)
    finally:
        for handle in handles:
            handle.remove()
    return layers


def count_activation_bytes(net: nn.Module, shape: Shape) -> int:
    """The bytes that autograd keeps of one image of that (C, H, W) in training, until the backward pass.

    That is the image itself and whatever the layers' derivatives need, those of auxiliary classifiers, too;
    parameters and buffers are not counted. Half of what two images take, as batch normalization of a single
    value is none.

    Raises:
        UserError: the net does not take such an image.
    """
    kept = set()

    def keep(tensor: Tensor) -> Tensor:
        kept.add(tensor.untyped_storage())
        return tensor

    with unchanged(net), torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
        run(net.train(), 2, shape)
        own = {tensor.untyped_storage() for tensor in (*net.parameters(), *net.buffers())}
    return sum(storage.nbytes() for storage in kept - own) // 2


def count_stages(net: nn.Module, layers: list[Layer]) -> list[Stage]:
    """The parts of the net and what their layers cost, with the paper's names where its Table 1 has them."""
    paper = TABLE_1 if [name for name, _ in net.named_children()] == list(TABLE_1) else {}
    stages = []
    for name, part in parts(net):
        inside = [layer for layer in layers if f"{layer.name}.".startswith(f"{name}.")]
        # logits have no size
        size = (inside[-1].output_shape[1:] or (1, 1)) if inside else None
        shown = f"{paper[name]} ({name})" if name in paper else name
        multiply_adds = sum(layer.multiply_adds for layer in inside)
        stages.append(Stage(shown, size, structure(part), count_parameters(part), multiply_adds))
    return stages


def parts(net: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The children of the net; the children's children where a container has more in it than a line can show."""
    for name, child in net.named_children():
        if type(child) in CONTAINERS and len(structure(child)) > LONGEST_STRUCTURE:
            yield from parts(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def structure(module: nn.Module) -> str:
    """In the notation of Table 1: `[1x1, 64; 3x3, 64; 1x1, 256] x 3` are three blocks with these convolutions,
    in the order of their definition, without the projections of shortcuts."""
    inside = [element for _, element in elements(module)] if type(module) in CONTAINERS else [module]
    texts = [(text, len(list(equal))) for text, equal in groupby(filter(None, map(describe, inside)))]
    return "; ".join(text if times == 1 else f"[{text.strip('[]')}] x {times}" for text, times in texts)


def describe(element: nn.Module) -> str:
    """A block, in brackets, or a single layer; empty if the paper's table would not name it."""
    layers = [layer for layer in leaves(element) if describe_layer(layer)]
    if len(layers) == 1:
        return describe_layer(layers[0])
    # the first block of a stage strides, and is to be equal to the others
    texts = [describe_layer(layer, with_stride=False) for layer in layers]
    return f"[{'; '.join(texts)}]" if texts else ""


def leaves(module: nn.Module) -> Iterator[nn.Module]:
    if not any(module.children()):
        yield module
    for name, child in module.named_children():
        if name != "shortcut":
            yield from leaves(child)


def describe_layer(layer: nn.Module, with_stride: bool = True) -> str:
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
    """Leave the buffers, training or evaluation, and the random numbers as they are."""
    training = {module: module.training for module in net.modules()}
    device = next(net.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), buffers_kept(net):
        try:
            yield
        finally:
            for module, before in training.items():
                module.training = before


def run(net: nn.Module, images: int, shape: Shape) -> None:
    weight = next(net.parameters())
    try:
        net(torch.zeros(images, *shape, device=weight.device, dtype=weight.dtype))
    except RuntimeError as error:
        raise UserError(
            f"model: {type(net).__name__} does not take images of {'x'.join(map(str, shape))} "
            f"({str(error).splitlines()[0].rstrip('.')}); "
            "where a model has a stem, model.stem=cifar fits it to images of some 32 pixels"
        ) from error
