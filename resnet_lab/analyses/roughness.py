"""How rough the training loss is around the weights: sections of the surface that `landscape` draws."""

import itertools
import math
import statistics
import sys
from collections.abc import Sequence

import torch
from torch import nn

from resnet_lab.analyses.landscape import direction, measured_on, move
from resnet_lab.analyses.measured import Rows, evaluated
from resnet_lab.checks import UserError, check_at_least, check_positive
from resnet_lab.data import ImageData

# What bends less than this share of the loss at that point counts as straight. Far from the weights the loss may
# be a million times as high: a share of that would hide whatever is rough near them.
FLAT = 1e-4


def roughness(
    net: nn.Module,
    data: ImageData,
    part: str = "train",
    images: int = 500,
    sections: int = 20,
    points: int = 21,
) -> Rows:
    """How the loss bends and turns along random lines through the weights.

    Each line goes from -1 to 1 times a random direction, filter-normalized as in Li et al. (2018), with batch
    normalization by the running statistics. A convex section has no point that bends down; a section that falls to
    one minimum and rises from it has no detour, convex or not. Detours are those of the logarithm of the loss.

    Args:
        part: train, val or test.
        images: at most so many of them, the same at all points, evenly spaced over the part, not augmented.
        sections: random lines.
        points: on each line, evenly spaced, its ends among them.

    Returns:
        One row: `sections`; `not_convex`, the percentage of inner points at which the loss bends down; `detour`,
        the percentage by which the ups and downs of a section exceed those of one that falls to the same minimum
        and rises to the same ends; and `climb`, the logarithm to base 10 of the loss at the ends; all means over
        the sections.

    Raises:
        UserError: the loss is not finite.
        ValueError: there is no such part, a number is not a positive integer, or `points` not one from 3.
    """
    check_positive(images=images, sections=sections)
    check_at_least(3, points=points)
    batches = list(data.batches(part, images=images))
    generator = torch.Generator().manual_seed(0)
    middle, moved = evaluated(net), evaluated(net)
    places = [2 * number / (points - 1) - 1 for number in range(points)]
    found = []
    for _ in range(sections):
        along = direction(net, generator)
        losses = []
        for place in places:
            move(moved, middle, [place * step for step in along])
            losses.append(measured_on(moved, batches)["loss"])
        if not all(map(math.isfinite, losses)):
            raise UserError("the loss along a line through the weights is not finite; the net has diverged")
        found.append((not_convex(losses), detour(losses), climb(losses)))
    means = map(statistics.fmean, zip(*found, strict=True))
    return [{"sections": sections, **dict(zip(("not_convex", "detour", "climb"), means, strict=True))}]


def not_convex(heights: Sequence[float]) -> float:
    """The percentage of the inner points at which evenly spaced heights bend down."""
    bends = [
        before - 2 * here + after for before, here, after in zip(heights, heights[1:], heights[2:], strict=False)
    ]
    down = (bend < -FLAT * abs(here) for bend, here in zip(bends, heights[1:-1], strict=True))
    return 100 * sum(down) / len(bends)


def detour(heights: Sequence[float]) -> float:
    """By how many percent their logarithms vary more than in a fall to the minimum and a rise to the other end."""
    logs = [logarithm(height) for height in heights]
    needed = logs[0] + logs[-1] - 2 * min(logs)
    variation = sum(abs(after - before) for before, after in itertools.pairwise(logs))
    return 100 * (variation / needed - 1) if needed > 0 else 0.0


def climb(heights: Sequence[float]) -> float:
    """The mean logarithm to base 10 of the heights at the two ends."""
    return statistics.fmean(map(logarithm, (heights[0], heights[-1])))


def logarithm(height: float) -> float:
    """To base 10, of the smallest number where there is none."""
    return math.log10(max(height, sys.float_info.min))
