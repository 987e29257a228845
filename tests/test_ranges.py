"""Values out of their range are refused at once, and they are those that the constructors would refuse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import get_object
from pytorch_lightning.strategies import StrategyRegistry

from resnet_lab.checks import UserError
from resnet_lab.config.ranges import DIGITS, RANGES, SHAPES, check_ranges
from resnet_lab.config.trainer import STRATEGIES
from resnet_lab.config.values import check
from resnet_lab.data import Digits

Refuse = Callable[..., str]
# What is not allowed, by target and setting; for each setting of RANGES there is one.
WRONG: dict[str, dict[str, Any]] = {
    "resnet_lab.models.resnet_cifar": {"width": 0},
    "resnet_lab.models.resnet_imagenet": {"stem": "small", "width": -1},
    "resnet_lab.models.googlenet": {"auxiliary_weight": -1, "stem": "small"},
    "resnet_lab.models.highway": {"depth": 6, "width": 0},
    "resnet_lab.models.inception": {"module": "thin", "modules": 0, "width": 6, "filters": [8] * 5 + [0]},
    "resnet_lab.data.Synthetic": {
        **dict.fromkeys(("batch_size", "eval_batch_size", "train_images", "test_images", "subset"), 0),
        **dict.fromkeys(("image_size", "in_channels", "num_classes"), 0),
        **dict.fromkeys(("holdout", "crop_padding", "num_workers"), -1),
        "mean": "per_image",
        "root": None,
    },
    "resnet_lab.data.MNIST": {"max_images": 0},
    "resnet_lab.data.ImageFolder": {"in_channels": 2, "max_pixels": 0},
    "resnet_lab.data.VOC": {"mean": "per_pixel", "train": [], "test": ["2007"], "annotations": "all"},
    "resnet_lab.data.COCO": {"mean": "per_pixel", "train": "train2014", "test": ["a/b"], "num_classes": 0},
    "resnet_lab.data.ImageNet": {
        **dict.fromkeys(("prefetch", "statistics_images", "max_pixels", "num_classes"), 0),
        "colour": -1,
        "shorter_side": [480, 256],
        "eval_shorter_side": 200,
    },
    "resnet_lab.data.Scenes": {"objects": "letters", "count": [0, 4], "sizes": [48, 16], "scene_seed": -1},
    "resnet_lab.tasks.Segmentation": {"head": "unet", "stride": 0},
    "resnet_lab.tasks.Localization": {"hidden": 0, "stride": 0},
    "resnet_lab.tasks.Detection": {
        **dict.fromkeys(("hidden", "proposals", "sampled_anchors", "sampled_regions", "detections"), 0),
        **dict.fromkeys(("stride", "shorter_side", "longest_side"), 0),
        "region_head": "fc",
        "anchor_sizes": [],
        "aspect_ratios": [1.0, 0],
    },
    "resnet_lab.schedule.MultiStep": {"milestones": [9, 3], "gamma": 1.5},
    "resnet_lab.schedule.MultiStepWarmup": {"warmup_lr": 0, "until_error": 101, "window": 0},
    "resnet_lab.schedule.CosineWarmup": {"iterations": 0, "warmup": 690, "min_lr": -1},
    "resnet_lab.schedule.Plateau": {
        **{"gamma": 1, "threshold": 1, "patience": -1, "min_lr": -1},
        "monitor": "test/error",
    },
    "resnet_lab.callbacks.EMA": {"decay": 1, "update_every_n_steps": 0},
    "resnet_lab.callbacks.GradientNorms": {"every": 0},
    "resnet_lab.callbacks.ImageGrid": {"images": 0},
    "resnet_lab.callbacks.EarlyStopping": {"patience": 0, "min_delta": 100},
    "resnet_lab.analyses.constructed": {"rates": [0.02, 0.002, 0]},
    "resnet_lab.analyses.lesions": {"images": 0, "most": 0, "draws": 0},
    "resnet_lab.analyses.landscape": {"images": 0, "points": 1},
    "resnet_lab.analyses.roughness": {"sections": 0, "points": 2},
    "resnet_lab.analyses.shattered": {"lines": 0, "points": 3},
    "resnet_lab.analyses.signals": {"batch_size": 0},
    "torch.optim.SGD": {"lr": -1, "momentum": -1, "weight_decay": -1, "nesterov": True},
    "torch.optim.AdamW": {"lr": -1, "betas": [0.9, 1], "eps": -1, "weight_decay": -1},
    "torch.optim.lr_scheduler.ConstantLR": {"factor": 2},
    "torch.optim.lr_scheduler.OneCycleLR": {"total_steps": 0, "pct_start": 2, "anneal_strategy": "steps"},
}
# What the constructors take without a word, or find only when the images are there.
WARM_UP = "{_target_:resnet_lab.schedule.MultiStepWarmup,_partial_:true,milestones:[9]}"
CONSTANT = "{_target_:torch.optim.lr_scheduler.ConstantLR,_partial_:true}"
COSINE = "_target_:torch.optim.lr_scheduler.CosineAnnealingLR,_partial_:true"
LATER = {"std": [0], "part": "all", "max_lr": -1, "T_max": -1, "depths": [0]}
OPTIMIZER = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
# What else the constructors need, by the beginning of the target.
NEEDED: dict[str, dict[str, Any]] = {
    "resnet_lab.models.resnet_": {"depth": 50, "shortcut": "B"},
    "resnet_lab.models.resnet_cifar": {"depth": 20},
    "resnet_lab.models.highway": {"depth": 19},
    "resnet_lab.models.inception": {"module": "bottleneck"},
    "resnet_lab.data": {"root": "nowhere"},
    "resnet_lab.schedule": {"optimizer": OPTIMIZER},
    "resnet_lab.schedule.MultiStep": {"milestones": [3]},
    "resnet_lab.schedule.CosineWarmup": {"iterations": 690},
    "resnet_lab.analyses": {"net": None, "data": None},
    "torch.optim": {"params": OPTIMIZER.param_groups[0]["params"]},
    "torch.optim.lr_scheduler": {"optimizer": OPTIMIZER},
    "torch.optim.lr_scheduler.OneCycleLR": {"max_lr": 0.1, "total_steps": 690},
}
CASES = [(target, name, value) for target, settings in WRONG.items() for name, value in settings.items()]


def needed_by(target: str) -> dict[str, Any]:
    of_target = (settings for beginning, settings in NEEDED.items() if target.startswith(beginning))
    needed = dict(item for settings in of_target for item in settings.items())
    return {k: v for k, v in needed.items() if k != "params" or ".lr_scheduler." not in target}


@pytest.mark.parametrize(("target", "name", "value"), CASES)
def test_what_is_refused_at_once_the_constructor_refuses(target: str, name: str, value: Any) -> None:
    settings = needed_by(target) | {name: value}
    with pytest.raises((UserError, ValueError), match=name):
        check_ranges("block", target, settings)
    with pytest.raises(ValueError):  # noqa: PT011  # torch names the arguments in its own words
        get_object(target)(**settings)


def where_its_range_is(target: str, name: str) -> str:
    """The key of RANGES whose rule holds for a setting of the target; empty if there is none."""
    fitting = [of for of, rules in RANGES.items() if name in rules and f"{target}.".startswith(f"{of}.")]
    return fitting[-1] if fitting else ""


def test_each_range_is_tried() -> None:
    tried = {(where_its_range_is(target, name), name) for target, name, _ in CASES}
    assert {(of, name) for of, rules in RANGES.items() for name in rules if name not in LATER} <= tried
    for rules in RANGES.values():
        for name in rules.keys() & LATER.keys():
            with pytest.raises(UserError, match=f"block.{name} must be "):
                check(f"block.{name}", LATER[name], rules[name])


@pytest.mark.parametrize("target", sorted(SHAPES))
def test_means_of_other_channels_are_refused(target: str) -> None:
    channels = SHAPES[target][0]
    check_ranges("data", target, {"mean": [0.5] * channels, "std": [1] * channels})
    for key in ("mean", "std"):
        with pytest.raises(ValueError, match=f"{key} must have one number per channel"):
            check_ranges("data", target, {key: [0.5] * (channels + 1)})


def test_the_digits_are_as_many_as_the_rule_says() -> None:
    train, _ = Digits(root="").load()
    assert len(train.labels) == DIGITS


def test_strategies_are_some_of_lightnings() -> None:
    assert set(STRATEGIES) - {"auto"} <= set(StrategyRegistry.available_strategies())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optimizer.lr=-1"], "optimizer.lr must be a number, 0 or more, got -1"),
        (
            ["optimizer=adamw", "optimizer.betas=0.9"],
            "optimizer.betas must be a list of two numbers in [0, 1), got",
        ),
        (["optimizer=sgd_nesterov", "optimizer.momentum=0"], "optimizer: nesterov=true needs a momentum above 0"),
        (["trainer.precision=bf8"], "trainer.precision must be one of 32-true, bf16-mixed, "),
        (
            ["trainer.accelerator=abacus"],
            "trainer.accelerator must be null or one of auto, cpu, gpu, cuda; got",
        ),
        (["trainer.strategy=dpp"], "trainer.strategy must be a block with a _target_, or one of auto, "),
        (["trainer.devices=[]"], "trainer.devices must be a number, a list of GPUs or auto, got []"),
        (
            ["+trainer.gradient_clip_val=-1"],
            "trainer.gradient_clip_val must be null or a number, 0 or more",
        ),
        (["+trainer.deterministic=maybe"], "trainer.deterministic must be true, false or warn, got 'maybe'"),
        (["+trainer.benchmark=maybe"], "trainer.benchmark must be true, false or null, got 'maybe'"),
        (["model.width=0"], "model.width must be a positive integer, got 0"),
        (["data.root=null"], "data.root must be a folder, as in data.root=FOLDER, got None"),
        (["data.batch_size=0"], "data.batch_size must be a positive integer, got 0"),
        (["data.holdout=1437"], "data: holdout must be below the 1437 training images, got 1437"),
        (["data.subset=1438"], "data: subset must not exceed the 1437 training images, got 1438"),
        (
            ["data=synthetic", "data.subset=9", "data.holdout=9"],
            "data: holdout must be below the 9 training images",
        ),
        (["schedule.gamma=2"], "schedule.gamma must be a number in (0, 1], got 2"),
        (["schedule.milestones=[9,3]"], "schedule.milestones must be a list of positive iterations in order"),
        (["schedule=cosine", "schedule.T_max=0"], "schedule.T_max must be a positive integer, got 0"),
        (
            ["schedule=chain", f"schedule.schedules=[{CONSTANT},{{{COSINE},T_max:0}}]"],
            "schedule.schedules[1].T_max must be a positive integer, got 0",
        ),
        (
            ["schedule=one_cycle", "schedule.total_steps=9"],
            "schedule.total_steps must be 690 or more, as there are",
        ),
        (
            ["schedule=chain", f"schedule.schedules=[{WARM_UP},{CONSTANT}]"],
            "schedule.schedules[0] cannot be MultiStepWarmup, which does not work in a chain; choose another",
        ),
        (
            ["schedule=constant", "schedule.factor=0.1"],
            "schedule.factor=0.1 needs total_iters, the iterations for",
        ),
        (["schedule=constant", "schedule.factor=0"], "schedule.factor must be a number in (0, 1], got 0"),
        (
            ["data=scenes", "+data.policy=rand_augment"],
            "data: policy is for images without boxes, got 'rand_augment'",
        ),
        (["data=scenes", "+data.crop_padding=4"], "data: crop_padding is for images without boxes, got 4"),
        (
            ["data=scenes", "task=detection", "task.shorter_side=192"],
            "task: shorter_side and longest_side go together, got 192 and None; give both",
        ),
        (["callbacks=ema", "analyze_at=[9,last]"], "analyze_at=[9, 'last'] keeps the weights as they are, and"),
        (["schedule=plateau", "schedule.monitor=val/error"], "schedule.monitor=val/error needs data.holdout: "),
        (["callbacks=ema", "callbacks.ema.decay=1"], "callbacks.ema.decay must be a number in [0, 1), got 1"),
    ],
)
def test_refused_before_anything_is_written(main: Refuse, words: list[str], said: str, tmp_path: Path) -> None:
    assert main("train", *words).startswith(f"resnet-lab: {said}")
    assert list(tmp_path.iterdir()) == []
