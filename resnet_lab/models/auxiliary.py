"""The training output of a net with auxiliary classifiers."""

from typing import NamedTuple

from torch import Tensor


class WithAuxiliary(NamedTuple):
    """Logits (N, num_classes), and those of the auxiliary classifiers, whose losses are multiplied by `weight`."""

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float
