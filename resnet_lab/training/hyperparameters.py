"""The hyperparameters of a run, as TensorBoard and other loggers show them."""

from typing import Any

from resnet_lab.runs.identity import label
from resnet_lab.runs.swept import said_value, settings

Hyperparameter = bool | int | float | str

# the settings that people look for, in their words
WORDS = {
    "data": "data._target_",
    "depth": "model.depth",
    "shortcut": "model.shortcut",
    "width": "model.width",
    "optimizer": "optimizer._target_",
    "lr": "optimizer.lr",
    "weight decay": "optimizer.weight_decay",
    "schedule": "schedule._target_",
    "batch size": "data.batch_size",
    "iterations": "iterations",
    "precision": "trainer.precision",
}


def hyperparameters(config: dict[str, Any]) -> dict[str, Hyperparameter]:
    """Hyperparameters to sort runs by: first what people look for, then every other setting by its dotted name.

    So whatever a sweep varies is among them. TensorBoard shows those first in which runs differ.
    """
    found = settings(config)
    others = set(found) - {*WORDS.values(), "model._target_", "trainer._target_"}
    named = {"net": label(config), **{word: value_of(found, key) for word, key in WORDS.items()}}
    return named | {"seed": config["seed"]} | {key: value_of(found, key) for key in found if key in others}


def value_of(found: dict[str, Any], key: str) -> Hyperparameter:
    """The value in a form that TensorBoard accepts."""
    value = found.get(key)
    number = isinstance(value, bool | int | float)
    return value if number else said_value(found, key)  # type: ignore[return-value]
