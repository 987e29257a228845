"""The training loss on a plane around the weights (Li et al., 2018)."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.analyses.measured import evaluated
from resnet_lab.checks import check_at_least, check_positive
from resnet_lab.data import ImageData


def landscape(
    net: nn.Module,
    data: ImageData,
    part: str = "train",
    images: int = 500,
    points: int = 21,
    done: Sequence[dict[str, Any]] = (),
) -> Iterator[dict[str, Any]]:
    """The loss at weights + x d + y e, for x and y from -1 to 1, and random directions d and e.

    The directions are Gaussian, each filter of theirs scaled to the norm of the filter of the net in its place. As
    in the authors' code, what has one dimension stays: biases, and the scales and shifts of batch normalization.
    Batch normalization is by the running statistics, which belong to the middle of the plane and are not taken
    anew; in a net that has not been trained they are of no use.

    Args:
        part: train, val or test.
        images: at most so many of them, the same at all points, evenly spaced over the part, not augmented.
        points: along each axis, evenly spaced; the weights themselves are among them where the number is odd.
        done: the rows that there are of this plane already, in their order.

    Yields:
        One row per point that is left: `x`, `y`, `loss`, the mean cross-entropy, and `error` in percent.

    Raises:
        ValueError: there is no such part, `images` is not a positive integer, or `points` not one from 2.
    """
    check_positive(images=images)
    check_at_least(2, points=points)
    batches = list(data.batches(part, images=images))
    generator = torch.Generator().manual_seed(0)
    along_x, along_y = direction(net, generator), direction(net, generator)
    middle = evaluated(net)
    places = [2 * number / (points - 1) - 1 for number in range(points)]
    crossings = [(x, y) for y in places for x in places]
    return survey(middle, (along_x, along_y), crossings[len(done) :], batches)


def survey(
    middle: nn.Module,
    directions: tuple[list[Tensor], list[Tensor]],
    crossings: Sequence[tuple[float, float]],
    batches: Sequence[tuple[Tensor, Tensor]],
) -> Iterator[dict[str, Any]]:
    moved = evaluated(middle)
    for x, y in crossings:
        move(moved, middle, [x * d + y * e for d, e in zip(*directions, strict=True)])
        yield {"x": x, "y": y, **measured_on(moved, batches)}


def direction(net: nn.Module, generator: torch.Generator) -> list[Tensor]:
    """A random direction, by parameter, with the norm of each filter; 0 where a parameter has one dimension."""
    return [
        filter_normalized(torch.randn(p.shape, generator=generator), p.detach())
        if p.dim() > 1
        else torch.zeros_like(p)
        for p in net.parameters()
    ]


def filter_normalized(drawn: Tensor, weight: Tensor) -> Tensor:
    """Each filter, or row of a linear layer, with the norm of that of the weight."""
    norms = weight.flatten(1).norm(dim=1) / drawn.flatten(1).norm(dim=1)
    scaled: Tensor = drawn * norms.reshape(-1, *[1] * (weight.dim() - 1))
    return scaled


def move(moved: nn.Module, middle: nn.Module, steps: Sequence[Tensor]) -> None:
    """Give one net the weights of another, with these steps added."""
    with torch.no_grad():
        for parameter, start, step in zip(moved.parameters(), middle.parameters(), steps, strict=True):
            parameter.copy_(start + step)


def measured_on(net: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
    loss, wrong, total = 0.0, 0, 0
    with torch.no_grad():
        for pixels, labels in batches:
            logits = net(pixels)
            loss += float(F.cross_entropy(logits, labels, reduction="sum"))
            wrong += int((logits.argmax(1) != labels).sum())
            total += len(labels)
    return {"loss": loss / total, "error": 100 * wrong / total}
