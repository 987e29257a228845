"""What the addition of x does to signals and gradients on their way through blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.analyses.inside_blocks import Watched, blocks_with_f
from resnet_lab.analyses.measured import Rows, one_batch, with_batch_statistics
from resnet_lab.checks import check_positive
from resnet_lab.data import ImageData
from resnet_lab.models.structure import stage_of


def addition_grows(net: nn.Module, data: ImageData, part: str = "train", images: int = 256) -> Rows:
    """How large the signal is that each block gets, adds and passes on.

    If shortcut(x) and F(x) were uncorrelated, their variances would add up: `predicted_std` is the square root of
    the sum, and in a plain block, which adds nothing, the deviation of F(x). Batch normalization is by the batch,
    as in training.

    Args:
        part: train, val or test.
        images: at most so many of them, in one batch, evenly spaced over the part, not augmented.

    Returns:
        One row per block: `block` (from 1), `name`, `input_std`, `f_std` of F(x), `sum_std` of what the block adds
        up before its activation, `predicted_std` of that, and `output_std`. Standard deviations are over images,
        channels and positions.

    Raises:
        UserError: the net has no plain or residual block.
        ValueError: there is no such part, or `images` is not a positive integer.
    """
    check_positive(images=images)
    changed = with_batch_statistics(net)
    watched = {name: Watched(block) for name, block in blocks_with_f(changed).items()}
    with torch.no_grad():
        changed(one_batch(data, part, images)[0])
        return [{"block": number, "name": name, **sizes(w)} for number, (name, w) in enumerate(watched.items(), 1)]


def sizes(watched: Watched) -> dict[str, float]:
    added = None if watched.shortcut is None else watched.shortcut(watched.x)
    total = watched.f if added is None else watched.f + added
    predicted = watched.f.var() + (added.var() if added is not None else 0.0)
    return {
        "input_std": float(watched.x.std()),
        "f_std": float(watched.f.std()),
        "sum_std": float(total.std()),
        "predicted_std": float(predicted**0.5),
        "output_std": float(watched.output.std()),
    }


def gradient_identity(net: nn.Module, data: ImageData, part: str = "train", images: int = 128) -> Rows:
    """How far Equations 4 and 5 of "Identity Mappings in Deep Residual Networks" hold along a stage.

    For a block l and the last block L of its stage they say that x_{L+1} = x_l + sum of F, and that the gradient
    at x_l is that at x_{L+1} times "1 + d/dx_l of the sum". They hold where nothing but identities and additions
    is between; a ReLU after the addition breaks them, and a plain net has nothing that is added.

    In float64, with batch normalization by the batch, the loss being the mean cross-entropy.

    Args:
        part: train, val or test.
        images: at most so many of them, in one batch, evenly spaced over the part, not augmented.

    Returns:
        One row per block that keeps the shape: `block` (from 1), `name`, `signal_gap` and `gradient_gap`, the
        relative Euclidean distance of the two sides of the equations, 0 where they hold; and `direct`, the cosine
        between the gradients at x_l and at x_{L+1}, 1 where the gradient passes unchanged.

    Raises:
        UserError: the net has no plain or residual block.
        ValueError: there is no such part, or `images` is not a positive integer.
    """
    check_positive(images=images)
    changed = with_batch_statistics(net).double().requires_grad_(True)
    watched = {name: Watched(block) for name, block in blocks_with_f(changed).items()}
    pixels, labels = one_batch(data, part, images)
    with torch.enable_grad():
        loss = F.cross_entropy(changed(pixels.double()), labels)
        rows: Rows = []
        for number, name in enumerate(watched, 1):
            rest = [w for other, w in watched.items() if stage_of(other) == stage_of(name)]
            rest = rest[rest.index(watched[name]) :]
            if all(w.x.shape == w.f.shape for w in rest):
                rows.append({"block": number, "name": name, **gaps(loss, rest)})
    return rows


def gaps(loss: Tensor, rest: Sequence[Watched]) -> dict[str, float]:
    """The two sides of both equations, from a block to the end of its stage."""
    start, end = rest[0].x, rest[-1].output
    total = torch.stack([w.f for w in rest]).sum(0)
    at_start, at_end = torch.autograd.grad(loss, [start, end], retain_graph=True)
    (through,) = torch.autograd.grad(total, start, at_end, retain_graph=True)
    return {
        "signal_gap": distance(end, start + total),
        "gradient_gap": distance(at_start, at_end + through),
        "direct": float(F.cosine_similarity(at_start.flatten(), at_end.flatten(), dim=0).detach()),
    }


def distance(one: Tensor, other: Tensor) -> float:
    return float((one.detach() - other.detach()).norm() / one.detach().norm())
