"""`experiment=[X,smoke]`: X itself, shrunk to what a laptop runs in seconds.

X's nets, sweep, recipe and job stay. Nets that have a width are made narrower, the images become few pictures made
in memory of the same channels and classes, the iterations become few, and the schedule keeps its proportions. What
the command line or X's sweep gives outright is kept as it is, but for the width and the iterations of X's sweep.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from resnet_lab.config.compose import CONF
from resnet_lab.config.ranges import SHAPES
from resnet_lab.config.tasks import ANNOTATED
from resnet_lab.config.values import is_integer
from resnet_lab.runs.identity import OF

NAME = "smoke"
ITERATIONS = 4
NARROWER = 4  # times
BATCH, TRAIN_IMAGES, TEST_IMAGES, HOLDOUT = 8, 56, 16, 8
LARGEST = 96  # pixels, of which an ImageNet stem and its stages leave three
SYNTHETIC, SCENES = "resnet_lab.data.Synthetic", "resnet_lab.data.Scenes"
CPU = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto"}
EVERY_EPOCH = {"check_val_every_n_epoch": 1, "val_check_interval": 1.0}


def without_smoke(overrides: list[str]) -> list[str]:
    """The overrides without a `smoke` that follows other experiments."""
    return [shortened(override) for override in OverridesParser.create().parse_overrides(overrides)]


def shortened(override: Override) -> str:
    line = str(override.input_line)
    if override.key_or_group != "experiment" or override.is_sweep_override():
        return line
    names = override.value()
    if not isinstance(names, list) or len(names) < 2 or names[-1] != NAME:
        return line
    return f"{line.partition('=')[0]}=[{','.join(map(str, names[:-1]))}]"


def shrink(cfg: DictConfig, given: list[str]) -> None:
    """Shrink the composed config in place; `given` are the overrides that are kept as they are."""
    keys = [override.key_or_group for override in OverridesParser.create().parse_overrides(given)]

    def put(key: str, value: Any) -> None:
        if not any(f"{key}.".startswith(f"{name}.") for name in keys):
            OmegaConf.update(cfg, key, value, merge=False, force_add=True)

    with open_dict(cfg):
        before = cfg.iterations
        put("iterations", min(ITERATIONS, before) if is_integer(before, 0) else ITERATIONS)
        if before in (swept := swept_iterations(cfg)):
            cfg.iterations = max(1, before * ITERATIONS // min(swept))
        put("experiment_name", f"{cfg.experiment_name}-{NAME}")
        put("runtime.compile", False)
        for key, value in (CPU | EVERY_EPOCH).items():
            put(f"trainer.{key}", value)
        if is_integer(before, 1):
            put("schedule", scaled(raw(cfg.schedule), cfg.iterations / before))
            put("analyze_at", scaled(cfg.analyze_at and raw(cfg.analyze_at), cfg.iterations / before))
        if str(cfg.weights).startswith(OF):  # of runs that are not there
            put("weights", None)
            put("weights_head", "keep")
            put("task.frozen_norm", False)
        put("analyses", [shortened_training(entry) for entry in raw(cfg.analyses)])
        if is_integer(cfg.model.get("width"), 1):
            cfg.model.width = max(1, cfg.model.width // NARROWER)
        if cfg.job != "loading":  # which makes its own photographs
            shrink_data(cfg, put)


def shortened_training(entry: Any) -> Any:
    """An analysis that trains, with few iterations."""
    if not isinstance(entry, dict):
        return entry
    return {
        name: {key: ITERATIONS if key == "iterations" else value for key, value in settings.items()}
        for name, settings in entry.items()
    }


def swept_iterations(cfg: DictConfig) -> list[int]:
    """The values of `iterations` that the experiment itself sweeps over, one run each."""
    params = cfg.hydra.sweeper.get("params") or {}
    values = str(params.get("iterations", "")).split(",")
    return [int(value) for value in values if value.strip().isdecimal()]


def shrink_data(cfg: DictConfig, put: Callable[[str, Any], None]) -> None:
    """Reduce the images: few made in memory where the shape is known, else a subset of the real ones."""
    data = raw(cfg.data)
    target = data.get("_target_")
    if target in SHAPES or target == SYNTHETIC:
        put("data", made_in_memory(data))
    elif target in ANNOTATED and target != SCENES:
        put("data", raw(OmegaConf.load(Path(CONF, "data", "scenes.yaml"))))
        for side in ("shorter_side", "longest_side"):
            put(f"task.{side}", None)
    put("data.batch_size", BATCH)
    if "train_images" in cfg.data:
        put("data.train_images", TRAIN_IMAGES)
        put("data.test_images", TEST_IMAGES)
    else:
        put("data.subset", TRAIN_IMAGES)
    if cfg.data.get("holdout"):
        put("data.holdout", HOLDOUT)


def made_in_memory(data: dict[str, Any]) -> dict[str, Any]:
    """conf/data/synthetic.yaml with the shape and the settings of these data, as far as both have them."""
    block: dict[str, Any] = raw(OmegaConf.load(Path(CONF, "data", "synthetic.yaml")))
    shape = SHAPES.get(data["_target_"], (block["in_channels"], block["image_size"], block["num_classes"]))
    said = {key: value for key, value in data.items() if key in block and value is not None}
    block |= dict(zip(("in_channels", "image_size", "num_classes"), shape, strict=True)) | said
    side = block["image_size"]
    return block | {
        "_target_": SYNTHETIC,
        "image_size": min(side, LARGEST) if is_integer(side, 1) else side,
        "subset": None,
    }


def scaled(value: Any, ratio: float) -> Any:
    """A schedule whose whole numbers, all of them counts of iterations or epochs, are that many times as large."""
    if isinstance(value, dict):
        return {key: scaled(item, ratio) for key, item in value.items()}
    if isinstance(value, list):
        return [scaled(item, ratio) for item in value]
    return max(1, int(value * ratio)) if is_integer(value, 1) else value


def raw(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False)
