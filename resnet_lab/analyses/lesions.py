"""What a net loses with a block (Veit, Wilber and Belongie, 2016, Section 4)."""

from collections.abc import Sequence

import torch
from torch import nn

from resnet_lab.analyses.inside_blocks import blocks_with_f, take_out
from resnet_lab.analyses.measured import Rows, error_of, evaluated
from resnet_lab.checks import UserError, check_positive
from resnet_lab.data import ImageData


def lesion(net: nn.Module, data: ImageData, part: str = "train", images: int = 1000) -> Rows:
    """The error of a trained net with one block taken out, for each block that can be.

    A residual block is reduced to its shortcut, a plain block to the identity; a plain block that changes the
    shape stays, as nothing fits in its place. The net is in evaluation mode.

    Args:
        part: train, val or test.
        images: at most so many of them, evenly spaced over the part, not augmented.

    Returns:
        One row per block that can be taken out: `block` (from 1, counted over all), `name`, `error` in percent,
        and `increase` in points over the error of the whole net.

    Raises:
        UserError: the net has no such block.
        ValueError: there is no such part, or `images` is not a positive integer.
    """
    check_positive(images=images)
    whole = error_without(net, (), data, part, images)
    return [
        {"block": number, "name": name, "error": error, "increase": error - whole}
        for number, name in removable(net, data)
        for error in [error_without(net, [name], data, part, images)]
    ]


def lesions(
    net: nn.Module, data: ImageData, part: str = "train", images: int = 1000, most: int = 6, draws: int = 10
) -> Rows:
    """The error of a trained net with 1, 2, ... blocks taken out at random, as in `lesion`.

    Args:
        part, images: as in `lesion`.
        most: blocks at most, and no more than there are.
        draws: random choices for each number of blocks, the same in all nets with the same blocks.

    Returns:
        One row per number of blocks: `blocks` (from 0), and the mean over the choices of `error` in percent and of
        `increase` in points over the error of the whole net.

    Raises:
        UserError: the net has no block that can be taken out.
        ValueError: there is no such part, or a number is not a positive integer.
    """
    check_positive(images=images, most=most, draws=draws)
    names = [name for _, name in removable(net, data)]
    generator = torch.Generator().manual_seed(0)
    whole = error_without(net, (), data, part, images)
    rows = [{"blocks": 0, "error": whole, "increase": 0.0}]
    for count in range(1, min(most, len(names)) + 1):
        chosen = [torch.randperm(len(names), generator=generator)[:count].tolist() for _ in range(draws)]
        errors = [error_without(net, [names[i] for i in some], data, part, images) for some in chosen]
        mean = sum(errors) / draws
        rows.append({"blocks": count, "error": mean, "increase": mean - whole})
    return rows


def removable(net: nn.Module, data: ImageData) -> list[tuple[int, str]]:
    """Number and name of each block that has a shortcut, or whose output has the shape of its input."""
    found = blocks_with_f(net)
    same: dict[str, bool] = {}
    changed = evaluated(net)
    for name, block in blocks_with_f(changed).items():
        block.register_forward_hook(
            lambda _, inputs, output, name=name: same.update({name: inputs[0].shape == output.shape})
        )
    with torch.no_grad():
        changed(next(iter(data.batches("train", 1, 1)))[0])
    numbered = [
        (number, name)
        for number, (name, block) in enumerate(found.items(), 1)
        if block.shortcut is not None or same[name]
    ]
    if not numbered:
        raise UserError("every block of this net changes the shape, and none has a shortcut; take a deeper net")
    return numbered


def error_without(net: nn.Module, names: Sequence[str], data: ImageData, part: str, images: int) -> float:
    """The error in percent with these blocks taken out."""
    changed = evaluated(net)
    for name in names:
        take_out(blocks_with_f(changed)[name])
    return error_of(changed, data, part, images)
