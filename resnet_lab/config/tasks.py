"""What goes with a task, and what does not. Imports no torch."""

import importlib.util
from typing import Any

from resnet_lab.checks import UserError

CLASSIFICATION = "classification"
OURS = "resnet_lab.data."
# What a dataset is annotated for, where that is not classes alone.
ANNOTATED: dict[str, tuple[str, ...]] = {
    "resnet_lab.data.COCO": ("detection",),
    "resnet_lab.data.VOC": ("detection", "segmentation"),
    "resnet_lab.data.Scenes": (CLASSIFICATION, "detection", "localization", "segmentation"),
}
# Nets that are no sequence of parts, which a backbone is taken from.
NO_BACKBONES = {
    f"resnet_lab.models.{name}": label
    for name, label in {
        "alexnet": "AlexNet",
        "googlenet": "GoogLeNet",
        "inception_v4": "Inception-v4",
        "inception_resnet_v2": "Inception-ResNet-v2",
    }.items()
}

# What their errors are.
ERRORS = {
    "detection": "The errors of a detector are 100 less its mean average precision in percent (COCO's) at an "
    "overlap of 0.5; the train error alone is another one, of the regions sampled in training that are taken for "
    "another class or for the background.",
    "localization": "An image is wrong if its class is, or if its box overlaps the object's by less than half; "
    "the error of the box is taken with the true class given.",
    "segmentation": "The errors are 100 less the mean intersection over union in percent, over the classes and "
    "the background; the error of pixels is the percentage of wrong ones.",
}


def name_of(config: dict[str, Any]) -> str:
    """The name of a config's task, as in `task=detection`; older configs have no such block."""
    target = (config.get("task") or {}).get("_target_", CLASSIFICATION)
    return str(target).rpartition(".")[2].lower()


def check_task(config: dict[str, Any]) -> None:
    """Refuse data without the task's annotations, and settings that it does not know.

    Raises:
        UserError: there is one.
    """
    task, data = name_of(config), config["data"]
    target = str(data.get("_target_"))
    fitting = ANNOTATED.get(target, (CLASSIFICATION,))
    if target.startswith(OURS) and task not in fitting:
        known = " or ".join(f"task={name}" for name in fitting)
        name = target.rpartition(".")[2]
        raise UserError(f"task={task} does not go with the images of {name}; choose {known}, or data=scenes")
    if task == "localization" and (count := data.get("count", [1, 1])) != [1, 1]:
        raise UserError(
            f"task=localization is for one object in each image, got data.count={count}; set it to [1,1]"
        )
    if task != CLASSIFICATION:
        check_other(task, config)


def check_classifies(config: dict[str, Any], what: str) -> None:
    """Raise UserError unless the task of a run's config is classification."""
    if (task := name_of(config)) != CLASSIFICATION:
        raise UserError(f"{what} for task=classification, and this run has task={task}")


def check_other(task: str, config: dict[str, Any]) -> None:
    """Refuse what is for classification alone, and measures whose package is not installed."""
    for key, value in {"label_smoothing": 0.0, "mixup": 0.0, "analyses": [], "job": "train"}.items():
        if config[key] != value:
            raise UserError(f"{key}={config[key]} is for task=classification, got task={task}; leave it out")
    if (net := NO_BACKBONES.get(str(config["model"].get("_target_")))) is not None:
        raise UserError(
            f"{net} cannot be a backbone, which task={task} needs; choose a residual, plain or VGG net"
        )
    if config["task"].get("frozen_norm") and config["weights"] is None:
        raise UserError("task.frozen_norm=true leaves batch normalization as in given weights; set weights=FILE")
    if task == "detection" and importlib.util.find_spec("faster_coco_eval") is None:
        raise UserError("task=detection needs faster-coco-eval: pip install 'resnet-lab[detection]'")
