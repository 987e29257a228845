"""Differences between runs, and their names in tables, figures and TensorBoard. Standard library only.

Settings have the dotted names that the command line knows them by (`optimizer.lr`). The seed and all that says
where or how a run is executed do not count.
"""

import json
from collections.abc import Sequence
from typing import Any

from resnet_lab.runs.identity import LATER_KEYS, identity, label, later_settings
from resnet_lab.text import one_line

DEEPEST = 6  # levels of a config; what is nested deeper is one value
# What the name of a net already says.
NAMED = {"model._target_", "model.depth", "model.shortcut", "model.module", "model.batch_norm"}
FUNCTIONS = {
    "resnet_cifar": "ResNet",
    "resnet_imagenet": "ResNet",
    "preact_resnet_cifar": "pre-activation ResNet",
    "vgg": "VGG",
    "alexnet": "AlexNet",
    "googlenet": "GoogLeNet",
    "inception_v4": "Inception-v4",
    "inception_resnet_v2": "Inception-ResNet-v2",
}
SCHEDULES = {
    "MultiStep": "multistep",
    "MultiStepWarmup": "multistep with warm-up",
    "Plateau": "plateau",
    "CosineAnnealingLR": "cosine",
    "ConstantLR": "constant rate",
}
MISSING = "-"
NUMBERS = ("label_smoothing", "mixup")  # of a config, which the identity leaves unsaid where they are 0


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Dotted name and value of each setting that identifies the run; lists are values.

    Those of a net that the identity leaves unsaid are among them, so that a sweep over them names every value.
    """
    found: dict[str, Any] = {}

    def add(value: Any, name: str, depth: int) -> None:
        if isinstance(value, dict) and value and depth < DEEPEST:
            for key, item in value.items():
                add(item, f"{name}.{key}".lstrip("."), depth + 1)
        else:
            found[name] = value

    known = identity(config)
    if isinstance(model := known.get("model"), dict):
        known["model"] = model | later_settings(model) | model
    add({key: LATER_KEYS[key] for key in NUMBERS} | known, "", 0)
    return {key: value for key, value in found.items() if not key.endswith("_partial_") and key != "job"}


def differing(configs: Sequence[dict[str, Any]]) -> list[str]:
    """The settings that are not the same in all of the configs, or missing from some."""
    flat = [settings(config) for config in configs]
    keys = dict.fromkeys(key for found in flat for key in found)
    return [key for key in keys if len({said_value(found, key) for found in flat}) > 1]


def swept(configs: Sequence[dict[str, Any]]) -> list[str]:
    """The settings that tell the configs apart, besides the name of the net.

    Left out is what follows from another setting: what a block has because it is of another kind (a highway net
    has a bias, a VGG net has none), and milestones that moved with the iterations.
    """
    flat = [settings(config) for config in configs]
    found = [key for key in differing(configs) if key not in NAMED]
    return [key for key in found if is_own(key, flat)]


def is_own(key: str, flat: list[dict[str, Any]]) -> bool:
    """Whether the setting differs between configs that agree in what it follows from."""
    block = key.partition(".")[0]
    leading = [f"{block}._target_"] if not key.endswith("._target_") else []
    leading += ["iterations"] if block == "schedule" else []
    values: dict[tuple[str, ...], set[str]] = {}
    for found in flat:
        values.setdefault(tuple(said_value(found, name) for name in leading), set()).add(said_value(found, key))
    return any(len(those) > 1 for those in values.values())


def said_value(found: dict[str, Any], key: str) -> str:
    return text(key, found[key]) if key in found else MISSING


def word(key: str, among: Sequence[str] = ()) -> str:
    """A setting's short name, such as `lr` or `weight decay`; its full name where two would share that."""
    last = key.rpartition(".")[2]
    if last == "_target_":
        return one_line(key.partition(".")[0])
    if key == "weights_sha256":
        return "weights"
    alike = [other for other in among if other.rpartition(".")[2] == last]
    return one_line(key if len(alike) > 1 else last.replace("_", " "))


def text(key: str, value: Any) -> str:
    """A value as people write it: 0.0001, none, SGD, cosine."""
    if key.endswith("_target_"):
        name = str(value).rpartition(".")[2]
        return one_line(SCHEDULES.get(name, name) if key.startswith("schedule.") else name)
    if key == "weights_sha256":
        return str(value)[:8]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else one_line(value if isinstance(value, str) else json.dumps(value))


def said(config: dict[str, Any], keys: Sequence[str]) -> str:
    """These settings of the config in words: `lr 0.1, weight decay 0`."""
    found = settings(config)
    words = []
    for key in keys:
        if key in found:
            value = text(key, found[key])
            words.append(value if key.endswith("_target_") else f"{word(key, keys)} {value}")
    return ", ".join(words)


def title(config: dict[str, Any]) -> str:
    """The net as people write it: `plain-20`, `ResNet-56, option A`, `VGG-11 with batch normalization`."""
    model = config["model"]
    function, shortcut = str(model.get("_target_", "")).rpartition(".")[2], model.get("shortcut")
    if function not in FUNCTIONS or (function.startswith("resnet_") and shortcut == "none"):
        return label(config)
    depth = f"-{model['depth']}" if model.get("depth") is not None else ""
    option = f", option {shortcut}" if shortcut else ""
    normalized = " with batch normalization" if model.get("batch_norm") is True else ""
    return one_line(f"{FUNCTIONS[function]}{depth}{option}{normalized}")


def joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
