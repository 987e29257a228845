"""Whether several nets are better than the best of them (Section 4.1, Table 5)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from resnet_lab.analyses.deepened import fresh
from resnet_lab.analyses.measured import Rows, evaluated, one_batch
from resnet_lab.analyses.small_training import multistep, seed_from, trained
from resnet_lab.checks import check_positive
from resnet_lab.data import ImageData


def ensemble(
    net: nn.Module,
    data: ImageData,
    depths: Sequence[int] = (20, 14, 14, 8, 8),
    rate: float = 0.02,
    iterations: int = 150,
    batch_size: int = 64,
    part: str = "test",
    images: int = 2000,
) -> Rows:
    """The error of the net with one, two and more companions, by the average of their softmax scores.

    The companions are like the net, but for their depths and their first weights, and are trained here on the
    training images, not augmented, with the paper's momentum, weight decay and schedule.

    Args:
        depths: of the companions, in the order in which they join the net.
        rate: learning rate; a tenth of it from half of the iterations on, a hundredth from three quarters on.
        iterations: of each companion's training.
        batch_size: images a batch.
        part: train, val or test, on which the errors are taken.
        images: at most so many of a part, evenly spaced.

    Returns:
        One row per number of `members`, from 1: `error` in percent of so many together, `member_error` of the one
        that was added, `gain` in points of the error over the lowest one of a member so far, and `gain_over_mean`,
        over the mean of theirs. Members are not chosen: it is the best one that is, by the very errors.

    Raises:
        UserError: the net is not a plain or residual CIFAR net with batch normalization.
        ValueError: a number is not positive, or a depth is not 6n+2.
    """
    check_positive(iterations=iterations, batch_size=batch_size, images=images)
    if rate <= 0:
        raise ValueError(f"rate must be a positive number, got {rate!r}")
    pixels, labels = one_batch(data, "train", images)
    members = [evaluated(net)]
    for number, depth in enumerate(depths, seed_from(net)):
        member = fresh(net, depth, number)
        for _ in trained(member, pixels, labels, multistep(rate, iterations), batch_size, number):
            pass
        members.append(member.eval())
    seen, truth = one_batch(data, part, images)
    with torch.no_grad():
        return together(torch.stack([member(seen).double().softmax(1) for member in members]), truth)


def together(scores: Tensor, truth: Tensor) -> Rows:
    """The rows from the scores (members, N, num_classes) and the labels (N,)."""
    own = [error(of_member, truth) for of_member in scores]
    rows: Rows = []
    for count in range(1, len(scores) + 1):
        several = error(scores[:count].mean(0), truth)
        gains = {"gain": min(own[:count]) - several, "gain_over_mean": sum(own[:count]) / count - several}
        rows.append({"members": count, "error": several, "member_error": own[count - 1], **gains})
    return rows


def error(scores: Tensor, truth: Tensor) -> float:
    return 100 * float((scores.argmax(1) != truth).double().mean())
