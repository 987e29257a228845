"""Whether the gradient at the input changes like white noise from image to image (Balduzzi et al., 2017)."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resnet_lab.analyses.measured import Rows, one_batch, with_batch_statistics
from resnet_lab.checks import UserError, check_at_least, check_positive
from resnet_lab.data import ImageData

ROUNDING = 1e-20  # of float64, squared


def shattered(net: nn.Module, data: ImageData, part: str = "train", lines: int = 4, points: int = 128) -> Rows:
    """The autocorrelation of the gradient at the input, along straight lines from one image to another.

    White noise has 1 at lag 0 and 0 at all others; Brownian motion decays slowly. Lags are up to a quarter of the
    line, as few pairs of points are further apart.

    The gradient is that of a random projection of the logits, the same at all points and in all nets with as many
    classes. Their sum would not do: the cross-entropy stays as it is when all logits grow alike, so that nothing
    trains what the head adds up to.

    Batch normalization is by the batch, as in training. The batch is the points of one line: they lie closer
    together than images, which batch normalization blows up, and the gradient at a point takes in how the point
    moves the statistics of the others. In float64.

    Args:
        part: train, val or test.
        lines: pairs of images, formed at random of evenly spaced ones, not augmented, each image in one pair.
        points: evenly spaced on each line, its ends among them.

    Returns:
        One row per lag: `lag` in steps between points (from 0), `autocorrelation`, the mean over the lines, and
        `length`, the same in all rows: the lag at which that falls to one half, or the largest if it does not.

    Raises:
        UserError: the part has fewer images than the lines have ends.
        ValueError: there is no such part, `lines` is not a positive integer, or `points` not one from 4.
    """
    check_positive(lines=lines)
    check_at_least(4, points=points)
    generator = torch.Generator().manual_seed(0)
    images, _ = one_batch(data, part, 2 * lines)
    if len(images) < 2 * lines:
        raise UserError(f"lines must be at most half the images of {part}, which are {len(images)}; got {lines}")
    changed = with_batch_statistics(net).double().requires_grad_(False)
    ends = images[torch.randperm(2 * lines, generator=generator)].double()
    found = [
        autocorrelation(gradients(changed, line(start, end, points)))
        for start, end in zip(ends[::2], ends[1::2], strict=True)
    ]
    means = torch.stack(found).mean(0)[: points // 4 + 1].tolist()
    length = half_length(means)
    return [{"lag": lag, "autocorrelation": mean, "length": length} for lag, mean in enumerate(means)]


def half_length(correlations: Sequence[float]) -> float:
    """The lag at which they first fall to one half, straight between lags; the last lag where they do not."""
    for lag, (before, after) in enumerate(itertools.pairwise(correlations)):
        if after <= 0.5:
            return lag + (before - 0.5) / (before - after)
    return float(len(correlations) - 1)


def line(start: Tensor, end: Tensor, points: int) -> Tensor:
    """Evenly spaced images (points, C, H, W) from one to another."""
    shares = torch.linspace(0, 1, points, dtype=start.dtype).reshape(-1, 1, 1, 1)
    return start + shares * (end - start)


def gradients(net: nn.Module, images: Tensor) -> Tensor:
    """Of a random projection of the logits, at each image; flat, (N, C H W)."""
    images = images.clone().requires_grad_(True)
    with torch.enable_grad():
        logits: Tensor = net(images)
        generator = torch.Generator().manual_seed(1)
        projection = torch.randn(logits.shape[1], generator=generator, dtype=logits.dtype)
        (found,) = torch.autograd.grad((logits @ projection).sum(), images)
    return found.flatten(1)


def autocorrelation(series: Tensor) -> Tensor:
    """Of a series of vectors (n, d), at the lags 0 to n - 1, as it is usually estimated for numbers.

    At lag k it is the sum of <g_t - m, g_{t+k} - m> over that of |g_t - m|^2, m being the mean. That is undefined
    for a constant, such as the gradient of a linear net, which is as alike at any distance: 1 at all lags.
    """
    centered = series - series.mean(0)
    total = centered.square().sum()
    if total <= ROUNDING * series.square().sum():
        return torch.ones(len(series), dtype=series.dtype)
    products = centered @ centered.T
    return torch.stack([products.diagonal(lag).sum() for lag in range(len(series))]) / total
