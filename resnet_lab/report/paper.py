"""The paper's numbers, which stand beside runs of the paper's recipe on the paper's images alone.

Every setting that could move an error has to be the paper's. That the images are the official ones is known for
CIFAR-10 where the MD5 sums of its files were checked; ImageNet's have no sums, and are known by their number.
"""

from typing import Any

from resnet_lab.report.numbers import paper_number
from resnet_lab.report.results import Group, Result
from resnet_lab.runs.identity import LATER_KEYS, identity

# Settings of a protocol, and the tables whose errors were taken by it; Figure 4's curves are of another one.
PROTOCOLS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "ten_crop": ({"shorter_side": 256, "crop": 224}, (3, 2)),
    "multi_scale": ({"shorter_sides": [224, 256, 384, 480, 640]}, (4,)),
}

# How and where a run is executed; settings that move no error.
FREE = {
    "data": {"root", "num_workers", "prefetch", "eval_batch_size", "allow_unreadable", "max_pixels"},
    "trainer": {
        "_target_",
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "deterministic",
        "benchmark",
        "detect_anomaly",
        "profiler",
        "check_val_every_n_epoch",
        "val_check_interval",
    },
}
SGD = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0001}
MULTISTEP = {"_partial_": True, "milestones": [32000, 48000], "gamma": 0.1}
WARMUP = {"warmup_lr": 0.01, "until_error": 80.0, "window": 50}
TRAINER = {"precision": "32-true", "sync_batchnorm": False}
CIFAR_RECIPE: dict[str, dict[str, Any]] = {
    "model": {"_target_": "resnet_lab.models.resnet_cifar", "shortcut": "A", "width": 16},
    "data": {
        "_target_": "resnet_lab.data.CIFAR10",
        "batch_size": 128,
        "holdout": 0,
        "mean": "per_pixel",
        "std": None,
        "subset": None,
        "crop_padding": 4,
        "flip": True,
    },
    "optimizer": SGD,
    "schedule": {"_target_": "resnet_lab.schedule.MultiStep"} | MULTISTEP,
    "trainer": TRAINER,
}
IMAGENET_RECIPE: dict[str, dict[str, Any]] = {
    "model": {
        "_target_": "resnet_lab.models.resnet_imagenet",
        "width": 64,
        "stride_in": "1x1",
        "stem": "imagenet",
    },
    "data": {
        "_target_": "resnet_lab.data.ImageNet",
        "batch_size": 256,
        "holdout": 0,
        "mean": "per_pixel",
        "std": None,
        "subset": None,
        "image_size": 224,
        "shorter_side": [256, 480],
        "flip": True,
        "colour": 0.1,
    },
    "optimizer": SGD,
    "trainer": TRAINER,
}
IMAGENET_FREE = {"eval_shorter_side", "num_classes", "statistics_images"}
FALLING = ("resnet_lab.schedule.Plateau", "resnet_lab.schedule.MultiStep")


def paper_test_error(group: Group) -> str | None:
    """The paper's number for a group's net, if all its runs follow the paper's recipe on the official CIFAR-10."""
    if not group.completed or not all(is_papers_cifar(result, group.depth) for result in group.completed):
        return None
    net = f"resnet-{group.depth}"
    # where the paper gives a mean, ours stands beside it and not beside the best of the five runs
    if mean := paper_number(6, net, "test_error_mean"):
        return f"{mean} ± {paper_number(6, net, 'test_error_std')} % (n = 5)"
    best = paper_number(6, net, "test_error")
    return f"{best} % (n = 1)" if best else None


def is_papers_cifar(result: Result, depth: int) -> bool:
    recipe = CIFAR_RECIPE | {"model": CIFAR_RECIPE["model"] | {"depth": depth}}
    if depth >= 110:
        recipe |= {"schedule": {"_target_": "resnet_lab.schedule.MultiStepWarmup"} | MULTISTEP | WARMUP}
    facts = result.record.get("data") or {}
    images = (facts.get("train_images"), facts.get("test_images"), facts.get("official"))
    return (
        result.config.get("iterations") == 64000
        and images == (50000, 10000, True)
        and not LATER_KEYS.keys() & identity(result.config).keys()
        and all(follows(result.config, block, settings) for block, settings in recipe.items())
    )


def paper_errors(group: Group, protocol: dict[str, Any]) -> tuple[float, float | None] | None:
    """The paper's top-1 and top-5 errors of a net by the same protocol, if its runs follow the paper's recipe."""
    settings, tables = PROTOCOLS.get(protocol["name"], ({}, ()))
    if any(protocol.get(key) != value for key, value in settings.items()):
        return None
    if not all(is_papers_imagenet(result, group) for result in group.completed or group.results):
        return None
    net = f"plain-{group.depth}" if group.plain else f"resnet-{group.depth}-{group.shortcut}"
    for table in tables:
        if top1 := paper_number(table, net, "top1"):
            top5 = paper_number(table, net, "top5")
            return float(top1), float(top5) if top5 else None
    return None


def is_papers_imagenet(result: Result, group: Group) -> bool:
    model = IMAGENET_RECIPE["model"] | {"depth": group.depth, "shortcut": group.shortcut}
    facts = result.record.get("data") or {}
    return (
        result.config.get("iterations") == 600000
        and (facts.get("train_images"), facts.get("test_images")) == (1281167, 50000)
        and (result.config.get("schedule") or {}).get("_target_") in FALLING
        and not LATER_KEYS.keys() & identity(result.config).keys()
        and all(follows(result.config, b, s) for b, s in (IMAGENET_RECIPE | {"model": model}).items())
    )


def follows(config: dict[str, Any], block: str, recipe: dict[str, Any]) -> bool:
    """Whether a block has the recipe's settings and no further ones; one it lacks must be off in the recipe."""
    photographs = recipe.get("_target_") == "resnet_lab.data.ImageNet"
    free = FREE.get(block, set()) | (IMAGENET_FREE if photographs else set())
    given = {key: value for key, value in (identity(config).get(block) or {}).items() if key not in free}
    off = {key: value for key, value in recipe.items() if value in (None, False)}
    return off | given == recipe
