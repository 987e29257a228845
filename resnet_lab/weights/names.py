"""Our nets under torchvision's names, and with the channel order of nets whose option A pads on both sides."""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from resnet_lab.checks import UserError
from resnet_lab.models.blocks import BasicBlock, Bottleneck
from resnet_lab.models.shortcuts import PadShortcut
from resnet_lab.models.structure import blocks

TO_OURS = (
    (r"^conv1\.", "stem.0."),
    (r"^bn1\.", "stem.1."),
    (r"^layer(?=\d)", "stage"),
    (r"\.downsample\.", ".shortcut."),
    (r"^(fc|linear)\.", "head.2."),
)
TO_TORCHVISIONS = (
    (r"^stem\.0\.", "conv1."),
    (r"^stem\.1\.", "bn1."),
    (r"^stage(?=\d)", "layer"),
    (r"\.shortcut\.", ".downsample."),
    (r"^head\.2\.", "fc."),
)


def renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def shared_blocks(net: nn.Module) -> dict[str, BasicBlock | Bottleneck]:
    """Map names to the blocks that torchvision's ResNets share; pre-activation and other nets have none."""
    return {name: block for name, block in blocks(net).items() if isinstance(block, BasicBlock | Bottleneck)}


def pads(net: nn.Module) -> bool:
    return any(isinstance(block.shortcut, PadShortcut) for block in shared_blocks(net).values())


def remarks(net: nn.Module, padding: str) -> list[str]:
    """Remarks on what torchvision's names leave open."""
    where = {"both": "on both sides", "end": "at the end"}[padding]
    padded = [f"its zero channels are taken to be {where} (padding={padding})"] if pads(net) else []
    other = other_function(net)
    return padded + ([f"beware: {other}"] if other else [])


def other_function(net: nn.Module) -> str | None:
    """The reason why torchvision's net may compute another function from weights of the same names and shapes."""
    own = shared_blocks(net).values()
    if any(block.shortcut is None for block in own):
        return "this net has no shortcuts, but nets with these names do (model.shortcut=A)"
    if any(isinstance(block, Bottleneck) and block.conv1.stride != (1, 1) for block in own):
        return "this net strides in the 1x1 convolutions, torchvision's in the 3x3 (model.stride_in=3x3)"
    if any(isinstance(block, BasicBlock) and block.convolutions != 2 for block in own):
        return "nets with these names have two layers per block (model.layers_per_block=2)"
    if own and not any(isinstance(module, nn.BatchNorm2d) for module in net.modules()):
        return "this net has no batch normalization, but nets with these names do (model.norm=batch)"
    if any(isinstance(module, nn.Sigmoid | nn.Tanh) for module in net.modules()):
        return "this net has another activation than the ReLU of nets with these names (model.activation=relu)"
    return None


def reordered(net: nn.Module, weights: Mapping[str, Tensor], back: bool = False) -> dict[str, Tensor]:
    """Reorder the weights of a net that pads on both sides for ours, which pads at the end; or back.

    Weights of a net without padding stay as they are.
    """
    weights = dict(weights)
    if not pads(net):
        return weights
    for name, axis, order in carried_channels(net, weights):
        if name not in weights:  # a head that is left out
            continue
        weights[name] = weights[name].index_select(axis, order.argsort() if back else order)
    return weights


def carried_channels(net: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, int, Tensor]]:
    """Yield the weights with an axis for the channels that shortcuts carry: name, axis, and our order of theirs.

    The channels between the convolutions of a block keep their order.
    """
    order = torch.arange(len(weights["stem.0.weight"]))
    for name, block in shared_blocks(net).items():
        yield f"{name}.conv1.weight", 1, order
        if isinstance(block.shortcut, PadShortcut):
            order = widened(order, block.shortcut.extra_channels)
        last = f"{name}.conv{block.convolutions}.", f"{name}.bn{block.convolutions}."
        for of_channel, tensor in weights.items():
            if of_channel.startswith(last) and tensor.dim():  # the number of batches has no channels
                yield of_channel, 0, order
    yield "head.2.weight", 1, order


def widened(order: Tensor, extra: int) -> Tensor:
    """The order after zeros were added on both sides: the channels that the shortcut carries, then the new
    ones.

    Raises:
        UserError: the number of new channels is odd.
    """
    if extra % 2:
        raise UserError(f"padding must be end: {extra} channels, of an odd width, cannot be halved; got both")
    front = extra // 2
    new = [*range(front), *range(front + len(order), len(order) + extra)]
    return torch.cat([order + front, torch.tensor(new, dtype=order.dtype)])
