"""The depths that the paper's families have. Imports no torch, so that a wrong one is refused at once."""

from collections.abc import Callable
from typing import Any

from resnet_lab.checks import check_positive

PAPER_CIFAR = (20, 32, 44, 56, 110, 1202)
# Table 1: blocks in conv2_x to conv5_x
BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
IMAGENET = BASIC | BOTTLENECK


def check_cifar(depth: Any) -> None:
    """Raise ValueError unless the depth is 6n+2 (Section 4.2)."""
    check_positive(depth=depth)
    if depth < 8 or (depth - 2) % 6:
        paper = ", ".join(map(str, PAPER_CIFAR))
        raise ValueError(f"depth must be 6n+2 (8, 14, 20, ...; the paper's are {paper}), got {depth}")


def check_imagenet(depth: Any) -> None:
    """Raise ValueError unless Table 1 has the depth."""
    check_positive(depth=depth)
    if depth not in IMAGENET:
        raise ValueError(f"depth must be one of {', '.join(map(str, IMAGENET))}, got {depth!r}")


# By what a config names.
RULES: dict[str, Callable[[Any], None]] = {
    "resnet_lab.models.preact_resnet_cifar": check_cifar,
    "resnet_lab.models.resnet_cifar": check_cifar,
    "resnet_lab.models.resnet_imagenet": check_imagenet,
}
