"""Whether SGD stays with a deeper net that is no worse by construction (Section 1)."""

from collections.abc import Sequence

from torch import nn

from resnet_lab.analyses.deepened import deepened, fresh
from resnet_lab.analyses.measured import Rows, error_of, evaluated, one_batch
from resnet_lab.analyses.small_training import seed_from, trained
from resnet_lab.checks import check_positive
from resnet_lab.data import ImageData

COLUMNS = ("first_rate", "middle_rate", "last_rate")


def constructed(
    net: nn.Module,
    data: ImageData,
    depth: int = 56,
    rates: Sequence[float] = (0.02, 0.002, 0.0002),
    iterations: int = 100,
    every: int = 10,
    batch_size: int = 64,
    images: int = 2000,
) -> Rows:
    """Training error of a net that was deepened by identities, trained on at three rates, over the net's own.

    Beside it stands a net of that depth that begins with He's weights, at the first rate. All of them see the same
    batches, of training images that are not augmented, and have momentum and weight decay as the paper's.

    Args:
        depth: of the deeper net, 6n+2 layers.
        rates: learning rates, such as the first, the middle and the last one of the net's own training.
        iterations: of each training.
        every: iterations between two rows.
        batch_size: images a batch.
        images: at most so many training images, evenly spaced.

    Returns:
        One row per iteration, from 0: `iteration`, and in points over the training error of the net, in evaluation
        mode, that of the deepened net after so many iterations, `first_rate`, `middle_rate` and `last_rate`, and
        that of the net `from_he`.

    Raises:
        UserError: the net is not a plain or residual CIFAR net with batch normalization, or has option C.
        ValueError: a number is not positive, there are not three rates, or the depth is not a greater one.
    """
    check_positive(iterations=iterations, every=every, batch_size=batch_size, images=images)
    if len(rates) != len(COLUMNS) or min(rates) <= 0:
        raise ValueError(f"rates must be three positive numbers, got {rates!r}")
    pixels, labels = one_batch(data, "train", images)
    own = error_of(evaluated(net), data, "train", images)

    def increases(changed: nn.Module, rate: float) -> list[float]:
        course = trained(changed, pixels, labels, iterations * [rate], batch_size, seed_from(net))
        done = (number for number in course if number % every == 0)
        return [error_of(changed.eval(), data, "train", images) - own for _ in done]

    found = {
        name: increases(deepened(net, depth, pixels), rate) for name, rate in zip(COLUMNS, rates, strict=True)
    }
    found["from_he"] = increases(fresh(net, depth, seed_from(net)), rates[0])
    return [
        {"iteration": number * every, **{name: values[number] for name, values in found.items()}}
        for number in range(iterations // every + 1)
    ]
