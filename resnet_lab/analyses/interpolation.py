"""The training loss on the straight line from the first weights to the last (Goodfellow et al., 2015)."""

from torch import nn

from resnet_lab.analyses.landscape import measured_on, move
from resnet_lab.analyses.measured import Rows, one_batch, with_batch_statistics
from resnet_lab.checks import UserError, check_at_least, check_positive
from resnet_lab.data import ImageData


def interpolation(
    net: nn.Module,
    data: ImageData,
    initial: nn.Module | None,
    part: str = "train",
    images: int = 500,
    points: int = 41,
) -> Rows:
    """The loss at (1 - s) times the first weights and s times the last, for s from 0 to 1.

    Batch normalization is by the batch, as in training: the running statistics of one end say nothing about the
    line.

    Args:
        initial: the net with the weights that training began with.
        part: train, val or test.
        images: at most so many of them, in one batch, evenly spaced over the part, not augmented.
        points: on the line, evenly spaced, its ends among them.

    Returns:
        One row per point: `share` (s), `loss`, the mean cross-entropy, `error` in percent, `rise`, by how much the
        loss lies above the lowest before it, and `barrier`, by how much it lies above the straight line between
        the losses at the two ends. Where the loss falls all along, `rise` is 0.

    Raises:
        UserError: the net has no training behind it.
        ValueError: there is no such part, `images` is not a positive integer, or `points` not one from 2.
    """
    check_positive(images=images)
    check_at_least(2, points=points)
    if initial is None:
        raise UserError(
            "interpolation is from a run's first weights to its last; give runs=PATH with analysis.at=last"
        )
    start, moved = with_batch_statistics(initial), with_batch_statistics(net)
    batch = [one_batch(data, part, images)]
    steps = [
        last.detach() - first.detach() for first, last in zip(start.parameters(), net.parameters(), strict=True)
    ]
    rows: Rows = []
    for share in (number / (points - 1) for number in range(points)):
        move(moved, start, [share * step for step in steps])
        rows.append({"share": share, **measured_on(moved, batch)})
    first, last = rows[0]["loss"], rows[-1]["loss"]
    lowest = first
    for row in rows:
        lowest = min(lowest, row["loss"])
        row["rise"] = row["loss"] - lowest
        row["barrier"] = row["loss"] - (1 - row["share"]) * first - row["share"] * last
    return rows
