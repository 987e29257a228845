"""How much of the gradient comes back through how many residual branches (Veit et al., 2016, Section 5)."""

import itertools
import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.analyses.inside_blocks import Watched, blocks_with_f
from resnet_lab.analyses.measured import Rows, one_batch, with_batch_statistics
from resnet_lab.analyses.small_training import seed_from
from resnet_lab.checks import UserError, check_positive
from resnet_lab.data import ImageData
from resnet_lab.models.blocks import Block


def paths(net: nn.Module, data: ImageData, part: str = "train", images: int = 64, draws: int = 10) -> Rows:
    """The gradient that comes back along the paths through k residual branches, for each k.

    A net of n residual blocks has 2^n paths from its first block to its last: at each block through F or through
    the shortcut. The gradient at the input of the first block is the sum over all of them. Along one path it goes
    back through F in k chosen blocks and only through the shortcut in the others, the forward pass being that of
    the whole net. A projection in a shortcut belongs to the shortcut.

    In float64, with batch normalization by the batch, as in training, the loss being the mean cross-entropy.

    Args:
        part: train, val or test.
        images: at most so many of them, in one batch, evenly spaced over the part, not augmented.
        draws: paths for each k, drawn at random, with repetition, for each net anew; all where there are no more.

    Returns:
        One row per k: `blocks` (k, from 0 to n), `paths`, the logarithm to base 10 of how many there are,
        `gradient_norm`, the mean over the paths that were taken, and `share`, in percent, of `gradient_norm` times
        the number of paths in the sum of that over all k. Paths cancel, so the sum exceeds the norm of the whole.
        `length`, the same in all rows, is the mean of k by these shares, in percent of n; if all paths carried as
        much it would be 50.

    Raises:
        UserError: the net has no residual block, or a plain one.
        ValueError: there is no such part, or a number is not a positive integer.
    """
    check_positive(images=images, draws=draws)
    changed = with_batch_statistics(net).double().requires_grad_(True)
    watched = [Watched(block) for block in residual(changed)]
    pixels, labels = one_batch(data, part, images)
    generator = torch.Generator().manual_seed(seed_from(net))
    with torch.enable_grad():
        loss = F.cross_entropy(changed(pixels.double()), labels)
        added = [w.shortcut(w.x) for w in watched if w.shortcut is not None]
    numbers = range(len(watched) + 1)
    counts = [math.log10(math.comb(len(watched), k)) for k in numbers]
    norms = [mean_norm(loss, watched, added, chosen(len(watched), k, draws, generator)) for k in numbers]
    parts = shares(counts, norms)
    length = sum(k * share for k, share in zip(numbers, parts, strict=True)) / len(watched)
    return [
        {"blocks": k, "paths": count, "gradient_norm": norm, "share": share, "length": length}
        for k, count, norm, share in zip(numbers, counts, norms, parts, strict=True)
    ]


def residual(net: nn.Module) -> list[Block]:
    """Its blocks, of which each has a shortcut."""
    found = list(blocks_with_f(net).values())
    if any(block.shortcut is None for block in found):
        raise UserError("a block of this net has no shortcut, and so one path alone; take cifar_resnet")
    return found


def chosen(blocks: int, k: int, draws: int, generator: torch.Generator) -> list[tuple[int, ...]]:
    """So many sets of k blocks, by number from 0; all sets where there are no more."""
    if math.comb(blocks, k) <= draws:
        return list(itertools.combinations(range(blocks), k))
    return [tuple(torch.randperm(blocks, generator=generator)[:k].tolist()) for _ in range(draws)]


def mean_norm(
    loss: Tensor, watched: Sequence[Watched], added: Sequence[Tensor], paths: Sequence[Collection[int]]
) -> float:
    return sum(float(along(loss, watched, added, path).norm()) for path in paths) / len(paths)


def along(loss: Tensor, watched: Sequence[Watched], added: Sequence[Tensor], path: Collection[int]) -> Tensor:
    """The gradient at the input of the first block, back through F in the blocks of these numbers, from 0, and
    through the shortcut, whose output is `added`, in the others."""
    place, gradient = loss, None
    for number in reversed(range(len(watched))):
        block = watched[number]
        # what adds hands the gradient of the sum to both
        (of_sum,) = torch.autograd.grad(place, block.f, gradient, retain_graph=True)
        branch = block.f if number in path else added[number]
        (gradient,) = torch.autograd.grad(branch, block.x, of_sum, retain_graph=True)
        place = block.x
    assert gradient is not None
    return gradient


def shares(counts: Sequence[float], norms: Sequence[float]) -> list[float]:
    """In percent, of 10^count times the norm; 10^count may be too large for a float."""
    sizes = [10 ** (count - max(counts)) * norm for count, norm in zip(counts, norms, strict=True)]
    return [100 * size / (sum(sizes) or 1.0) for size in sizes]
