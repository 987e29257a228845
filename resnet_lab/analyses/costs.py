"""What each block of a net costs, and what its shortcut has of that (Section 4.1)."""

import copy

from torch import nn

from resnet_lab.analyses.measured import Rows
from resnet_lab.checks import UserError
from resnet_lab.data import ImageData
from resnet_lab.models.count import Layer, count_layers
from resnet_lab.models.structure import blocks


def costs(net: nn.Module, data: ImageData) -> Rows:
    """Channels, parameters and multiply-adds of each block, for one image. Nothing is trained or drawn.

    Returns:
        One row per block: `block` (from 1), `name`, `in_channels`, `out_channels`, `parameters` and
        `multiply_adds`, `shortcut_parameters`, and in percent `shortcut_share` of these, and
        `shortcut_share_so_far` of those of this block and all before it.

    Raises:
        UserError: the net has no block.
    """
    found = blocks(net)
    if not found:
        raise UserError(f"{type(net).__name__} has no blocks; take cifar_resnet, imagenet_resnet or inception")
    watched = copy.deepcopy(net)
    channels: dict[str, tuple[int, int]] = {}
    for name, block in blocks(watched).items():
        block.register_forward_hook(
            lambda _, inputs, output, name=name: channels.update({name: (inputs[0].shape[1], output.shape[1])})
        )
    layers = count_layers(watched, data.shape)
    found = {name: block for name, block in found.items() if name in channels}  # auxiliary classifiers do not run
    rows: Rows = []
    parameters, shortcuts = 0, 0
    for number, name in enumerate(found, 1):
        own = inside(layers, name)
        parameters += total(own)
        shortcuts += total(inside(layers, f"{name}.shortcut"))
        rows.append(
            {
                "block": number,
                "name": name,
                "in_channels": channels[name][0],
                "out_channels": channels[name][1],
                "parameters": total(own),
                "multiply_adds": sum(layer.multiply_adds for layer in own),
                "shortcut_parameters": total(inside(layers, f"{name}.shortcut")),
                "shortcut_share": 100 * total(inside(layers, f"{name}.shortcut")) / total(own),
                "shortcut_share_so_far": 100 * shortcuts / parameters,
            }
        )
    return rows


def inside(layers: list[Layer], name: str) -> list[Layer]:
    return [layer for layer in layers if f"{layer.name}.".startswith(f"{name}.")]


def total(layers: list[Layer]) -> int:
    return sum(layer.parameters for layer in layers)
