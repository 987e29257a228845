"""Ranges of the settings of blocks, known without an import, so that a value out of its range is refused at once.

Constructors refuse the same values, seconds later; tests/test_ranges.py holds the two together.
"""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from resnet_lab.config.values import COUNT, NOT_NEGATIVE, Rule, check, is_integer, is_number, one_of, or_null
from resnet_lab.crops import check_crops
from resnet_lab.splits import check_coco, check_voc

# Channels, pixels and classes of the datasets that do not say so in their YAML.
SHAPES = {
    "resnet_lab.data.CIFAR10": (3, 32, 10),
    "resnet_lab.data.CIFAR100": (3, 32, 100),
    "resnet_lab.data.Digits": (1, 8, 10),
    "resnet_lab.data.FashionMNIST": (1, 28, 10),
    "resnet_lab.data.ImageNet": (3, 224, 1000),
    "resnet_lab.data.MNIST": (1, 28, 10),
}
DIGITS = 1437  # training images
CROPS = ("image_size", "shorter_side", "eval_shorter_side")


def is_list_of(allows: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list) and all(map(allows, value))


def is_some(allows: Callable[[Any], bool], value: Any) -> bool:
    return is_list_of(allows, value) and bool(value)


def is_range(value: Any) -> bool:
    return is_list_of(COUNT.allows, value) and len(value) == 2 and value[0] <= value[1]


def are_milestones(value: Any) -> bool:
    return is_list_of(lambda m: is_integer(m, 1), value) and all(a <= b for a, b in pairwise(value))


def are_betas(value: Any) -> bool:
    return is_list_of(BELOW_ONE.allows, value) and len(value) == 2


def is_mean(value: Any) -> bool:
    return value in ("per_pixel", "per_channel") or is_list_of(lambda number: is_number(number, -math.inf), value)


def is_colour(value: Any) -> bool:
    return is_list_of(lambda number: is_number(number, -math.inf), value) and len(value) == 3


# Of images of many sizes, in colour.
OF_COLOURS = {
    "mean": Rule(
        lambda value: value == "per_channel" or is_colour(value),
        "per_channel or a list of three numbers on the scale [0, 1]",
    ),
    "std": or_null(Rule(lambda value: is_colour(value) and min(value) > 0, "a list of three numbers above 0")),
}


def at_least(least: int) -> Rule:
    return Rule(lambda value: is_integer(value, least), f"an integer, {least} or more")


POSITIVE = Rule(lambda value: is_number(value, 0) and value > 0, "a number above 0")
BELOW_ONE = Rule(lambda value: is_number(value, 0) and value < 1, "a number in [0, 1)")
UP_TO_ONE = Rule(lambda value: is_number(value, 0) and value <= 1, "a number in [0, 1]")
NATURAL = at_least(0)
LEAST_AND_GREATEST = Rule(is_range, "two positive integers, the least and the greatest")

# By the beginning of the target, the more special after the more general.
RANGES: dict[str, dict[str, Rule]] = {
    "resnet_lab.models": {
        "width": COUNT,
        "modules": COUNT,
        "module": one_of("naive", "bottleneck"),
        "stem": one_of("imagenet", "cifar"),
        "auxiliary_weight": NOT_NEGATIVE,
    },
    "resnet_lab.models.highway": {"depth": at_least(7)},
    "resnet_lab.models.inception": {
        "width": Rule(lambda value: is_integer(value, 1) and value % 4 == 0, "a positive multiple of 4"),
        "filters": or_null(Rule(lambda value: is_list_of(COUNT.allows, value), "a list of positive integers")),
    },
    "resnet_lab.data": {
        "root": Rule(lambda value: isinstance(value, str), "a folder, as in data.root=FOLDER"),
        **dict.fromkeys(("batch_size", "eval_batch_size", "prefetch", "statistics_images"), COUNT),
        **dict.fromkeys(("train_images", "test_images", "max_images", "max_pixels"), COUNT),
        **dict.fromkeys(("subset", "image_size", "in_channels", "num_classes"), or_null(COUNT)),
        **dict.fromkeys(("holdout", "crop_padding"), NATURAL),
        "num_workers": or_null(NATURAL),
        "mean": Rule(is_mean, "per_pixel, per_channel or a list of one number per channel on the scale [0, 1]"),
        "std": or_null(Rule(lambda value: is_list_of(POSITIVE.allows, value), "a list of numbers above 0")),
        "colour": NOT_NEGATIVE,
    },
    "resnet_lab.data.COCO": OF_COLOURS,
    "resnet_lab.data.VOC": OF_COLOURS,
    "resnet_lab.data.ImageFolder": {
        "in_channels": Rule(lambda value: value in (None, 1, 3), "1 (grey), 3 (colour) or null (as the files)")
    },
    "resnet_lab.data.Scenes": {
        "objects": one_of("digits", "fashion_mnist", "cifar10"),
        **dict.fromkeys(("count", "sizes"), LEAST_AND_GREATEST),
        "scene_seed": NATURAL,
    },
    "resnet_lab.tasks": {
        **dict.fromkeys(("hidden", "proposals", "detections", "sampled_anchors", "sampled_regions"), COUNT),
        **dict.fromkeys(("stride", "shorter_side", "longest_side"), or_null(COUNT)),
        "region_head": one_of("mlp", "rest"),
        "anchor_sizes": Rule(lambda value: is_some(COUNT.allows, value), "a list of positive integers"),
        "aspect_ratios": Rule(lambda value: is_some(POSITIVE.allows, value), "a list of numbers above 0"),
    },
    "resnet_lab.tasks.Segmentation": {"head": one_of("fcn", "deeplab")},
    "resnet_lab.schedule": {
        "milestones": Rule(are_milestones, "a list of positive iterations in order"),
        "gamma": Rule(lambda value: is_number(value, 0) and 0 < value <= 1, "a number in (0, 1]"),
        **dict.fromkeys(("iterations", "window"), COUNT),
        **dict.fromkeys(("warmup", "patience"), NATURAL),
        "warmup_lr": POSITIVE,
        "min_lr": NOT_NEGATIVE,
        "until_error": Rule(lambda value: is_number(value, 0) and 0 < value <= 100, "a percentage in (0, 100]"),
        "monitor": one_of("train/error", "val/error"),
        "threshold": BELOW_ONE,
    },
    "resnet_lab.schedule.Plateau": {
        "gamma": Rule(lambda value: is_number(value, 0) and 0 < value < 1, "a number in (0, 1)")
    },
    "resnet_lab.callbacks": {
        **dict.fromkeys(("update_every_n_steps", "every", "images", "patience"), COUNT),
        "decay": BELOW_ONE,
        "min_delta": Rule(lambda value: is_number(value, 0) and value < 100, "a number of points in [0, 100)"),
    },
    "resnet_lab.analyses": {
        "part": one_of("train", "val", "test"),
        **dict.fromkeys(("images", "batch_size", "draws", "lines", "sections", "most"), COUNT),
        "points": at_least(2),
        "depths": Rule(lambda value: is_some(COUNT.allows, value), "a list of positive integers"),
        "rates": Rule(lambda value: is_some(POSITIVE.allows, value), "a list of numbers above 0"),
    },
    "resnet_lab.analyses.roughness": {"points": at_least(3)},
    "resnet_lab.analyses.shattered": {"points": at_least(4)},
    "torch.optim": {
        **dict.fromkeys(("lr", "momentum", "weight_decay"), NOT_NEGATIVE),
        "eps": Rule(lambda value: isinstance(value, list) or is_number(value, 0), "a number, 0 or more"),
        "betas": Rule(are_betas, "a list of two numbers in [0, 1)"),
    },
    "torch.optim.lr_scheduler.ConstantLR": {
        "factor": Rule(lambda value: is_number(value, 0) and 0 < value <= 1, "a number in (0, 1]")
    },
    "torch.optim.lr_scheduler.CosineAnnealingLR": {"T_max": NATURAL},
    "torch.optim.lr_scheduler.OneCycleLR": {
        "max_lr": POSITIVE,
        "total_steps": or_null(COUNT),
        "pct_start": UP_TO_ONE,
        "anneal_strategy": one_of("cos", "linear"),
    },
}


def check_ranges(block: str, target: str, settings: Mapping[str, Any]) -> None:
    """Refuse a setting of the block that is out of its range, by itself or beside the others.

    Raises:
        UserError: the value alone is out of range.
        ValueError: the value does not fit the other settings.
    """
    rules: dict[str, Rule] = {}
    for beginning, of_these in RANGES.items():
        rules |= of_these if f"{target}.".startswith(f"{beginning}.") else {}
    for name, value in settings.items():
        if name in rules:
            check(f"{block}.{name}", value, rules[name])
    if target in TOGETHER:
        TOGETHER[target](settings)
    if block == "data":
        check_channels(target, settings)


def check_channels(target: str, settings: Mapping[str, Any]) -> None:
    channels, *_ = SHAPES.get(target, (settings.get("in_channels"),))
    for name in ("mean", "std"):
        given = settings.get(name)
        if channels is not None and isinstance(given, list) and len(given) != channels:
            raise ValueError(f"{name} must have one number per channel, {channels} in all, got {given}")


def check_enough(images: int, settings: Mapping[str, Any]) -> None:
    subset = settings.get("subset")
    if subset is not None and subset > images:
        raise ValueError(f"subset must not exceed the {images} training images, got {subset}")
    left = images if subset is None else subset
    if settings.get("holdout", 0) >= left:
        raise ValueError(f"holdout must be below the {left} training images, got {settings['holdout']}")


def check_scenes(settings: Mapping[str, Any]) -> None:
    for name in ("crop_padding", "policy"):
        if settings.get(name):
            raise ValueError(f"{name} is for images without boxes, got {settings[name]!r}; leave it out")
    check_enough(settings.get("train_images", 2000), settings)
    if settings.get("sizes", [0])[-1] > settings.get("image_size", 96):
        raise ValueError(f"sizes must not exceed image_size={settings['image_size']}, got {settings['sizes']}")


def check_sides(settings: Mapping[str, Any]) -> None:
    sides = [settings.get(name) for name in ("shorter_side", "longest_side")]
    if sides.count(None) == 1:
        raise ValueError(f"shorter_side and longest_side go together, got {sides[0]} and {sides[1]}; give both")


def check_nesterov(settings: Mapping[str, Any]) -> None:
    if settings.get("nesterov") and (not settings.get("momentum") or settings.get("dampening")):
        raise ValueError("nesterov=true needs a momentum above 0 and no dampening; set optimizer.momentum=0.9")


def check_warmup(settings: Mapping[str, Any]) -> None:
    if settings.get("warmup", 0) >= settings.get("iterations", 1):
        raise ValueError(f"warmup must be below the {settings['iterations']} iterations, got {settings['warmup']}")


def those(settings: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: settings[name] for name in names if name in settings}


# By target, what settings must be beside each other.
TOGETHER: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "resnet_lab.data.COCO": lambda settings: check_coco(**those(settings, "train", "test")),
    "resnet_lab.data.Digits": lambda settings: check_enough(DIGITS, settings),
    "resnet_lab.data.ImageNet": lambda settings: check_crops(**{k: settings[k] for k in CROPS if k in settings}),
    "resnet_lab.data.Scenes": check_scenes,
    "resnet_lab.data.Synthetic": lambda settings: check_enough(settings.get("train_images", 512), settings),
    "resnet_lab.data.VOC": lambda settings: check_voc(**those(settings, "train", "test", "annotations")),
    "resnet_lab.schedule.CosineWarmup": check_warmup,
    "resnet_lab.tasks.Detection": check_sides,
    "torch.optim.SGD": check_nesterov,
}
