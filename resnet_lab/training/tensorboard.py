"""A run's TensorBoard events, written into its own directory, and its hyperparameters there."""

from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers import TensorBoardLogger

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


class RunEvents(TensorBoardLogger):
    """Events directly in `directory`; those after iteration `step` are void, because the run resumes there."""

    def __init__(self, directory: Path, step: int) -> None:
        # also at step 0: a run that starts anew may have ended before its first checkpoint
        purge: dict[str, Any] = {"purge_step": step + 1}
        super().__init__(directory, name="", version="", default_hp_metric=False, **purge)

    @rank_zero_only
    def save(self) -> None:
        # the parent also writes a file of hyperparameters; ours are in the run's config
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        # fit and test end one after the other; closing in between would start a second file of events
        self.experiment.flush()


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
