"""Settings that the paper's families of nets allow. Imports no torch, so that others are refused at once."""

from collections.abc import Callable, Mapping
from typing import Any

from resnet_lab.checks import check_choice, check_positive

PAPER_CIFAR = (20, 32, 44, 56, 110, 1202)
LAYERS_PER_BLOCK = (1, 2, 3)
SHORTCUTS = ("none", "A", "B", "C")
NORMS = ("batch", "none")
ACTIVATIONS = ("relu", "sigmoid", "tanh")
INITIALIZATIONS = ("he", "xavier", "normal", "dirac", "delta_orthogonal", "zero_last")
STRIDE_IN = ("1x1", "3x3")
# Table 1: blocks in conv2_x to conv5_x
BASIC = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
BOTTLENECK = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
IMAGENET = BASIC | BOTTLENECK


def check_cifar(depth: Any, layers_per_block: Any = 2) -> None:
    """Raise ValueError unless the depth is 6n+2 (Section 4.2), or 3n+2 or 9n+2 with 1 or 3 layers per block."""
    check_positive(depth=depth, layers_per_block=layers_per_block)
    if layers_per_block not in LAYERS_PER_BLOCK:
        allowed = ", ".join(map(str, LAYERS_PER_BLOCK))
        raise ValueError(f"layers_per_block must be one of {allowed}, got {layers_per_block}")
    step = 3 * layers_per_block
    if depth < step + 2 or (depth - 2) % step:
        own = "" if layers_per_block == 2 else f" with layers_per_block={layers_per_block}"
        first = ", ".join(str(step * n + 2) for n in (1, 2, 3))
        paper = ", ".join(str(d) for d in PAPER_CIFAR if (d - 2) % step == 0)
        raise ValueError(f"depth must be {step}n+2{own} ({first}, ...; the paper's are {paper}), got {depth}")


def check_imagenet(depth: Any) -> None:
    """Raise ValueError unless Table 1 has the depth."""
    check_positive(depth=depth)
    if depth not in IMAGENET:
        raise ValueError(f"depth must be one of {', '.join(map(str, IMAGENET))}, got {depth!r}")


def check_initialization(initialization: Any, shortcut: Any, norm: Any) -> None:
    """Raise ValueError unless the initialization is known and fits the shortcuts and the normalization."""
    check_choice("initialization", initialization, INITIALIZATIONS)
    if initialization == "zero_last" and "none" in (shortcut, norm):
        raise ValueError(
            "initialization=zero_last needs shortcut=A, B or C and norm=batch, as it starts each block as its "
            f"shortcut by its last batch normalization; got shortcut={shortcut}, norm={norm}"
        )


# What a depth may be follows from these settings of a net.
SETTINGS = ("depth", "layers_per_block")
# By what a config names.
RULES: dict[str, Callable[..., None]] = {
    "resnet_lab.models.preact_resnet_cifar": check_cifar,
    "resnet_lab.models.resnet_cifar": check_cifar,
    "resnet_lab.models.resnet_imagenet": check_imagenet,
}
CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "resnet_lab.models.googlenet": {"norm": NORMS},
    "resnet_lab.models.preact_resnet_cifar": {"shortcut": SHORTCUTS[1:]},
    "resnet_lab.models.resnet_cifar": {"shortcut": SHORTCUTS, "norm": NORMS, "activation": ACTIVATIONS},
    "resnet_lab.models.resnet_imagenet": {"shortcut": SHORTCUTS, "stride_in": STRIDE_IN},
}


def check_net(target: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings that a net of a family cannot have; those of other nets are not judged."""
    for name, allowed in CHOICES.get(target, {}).items():
        if name in settings:
            check_choice(name, settings[name], allowed)
    if "initialization" in settings:
        check_initialization(settings["initialization"], settings.get("shortcut"), settings.get("norm"))
    if target in RULES and "depth" in settings:
        RULES[target](**{name: settings[name] for name in SETTINGS if name in settings})
