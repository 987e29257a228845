"""What a net with auxiliary classifiers returns in training."""

from typing import NamedTuple

from torch import Tensor


class WithAuxiliary(NamedTuple):
    """The logits (N, num_classes), and those of the auxiliary classifiers, whose losses count `weight` times."""

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float
