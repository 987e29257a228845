"""The `_target_`s that a config may have, judged by name alone, so that nothing needs importing."""

import re
from typing import Any

from resnet_lab import trust
from resnet_lab.checks import UserError

# Each block takes its own kind from its own modules; build.py judges what a name leads to.
MODULES = {
    "model": ("resnet_lab.models",),
    "data": ("resnet_lab.data",),
    "task": ("resnet_lab.tasks",),
    "optimizer": ("torch.optim",),
    "schedule": ("resnet_lab.schedule", "torch.optim.lr_scheduler"),
    "trainer": ("pytorch_lightning.Trainer",),
    "trainer.strategy": ("pytorch_lightning.strategies",),
    "analysis": ("resnet_lab.analyses",),
    "callbacks": ("resnet_lab.callbacks",),
    "logger": ("resnet_lab.loggers",),
}
NAMED = ("callbacks", "logger")  # groups of blocks, each under a name of its own
CHAINED = re.compile(r"schedule\.schedules\[\d+\]")


def check_names(config: dict[str, Any]) -> None:
    """Refuse any `_target_`, anywhere in a config, that its block may not have.

    Raises:
        UserError: there is one.
    """
    for key, value in config.items():
        for where, target in targets(key, value):
            check_name(where, target)


def targets(where: str, value: Any) -> list[tuple[str, Any]]:
    """Each `_target_` at any depth, with the place that has it."""
    if isinstance(value, dict):
        own = [(where, value["_target_"])] if "_target_" in value else []
        return own + [found for key, inner in value.items() for found in targets(f"{where}.{key}", inner)]
    if isinstance(value, list):
        return [found for place, inner in enumerate(value) for found in targets(f"{where}[{place}]", inner)]
    return []


def group_of(where: str) -> str:
    """The kind of the block at that place: `callbacks` for a named one, `schedule` for one of a chain."""
    if CHAINED.fullmatch(where):
        return "schedule"
    group, _, name = where.partition(".")
    return group if group in NAMED and name and not any(sign in name for sign in ".[") else where


def check_name(where: str, target: Any) -> None:
    known = isinstance(target, str) and all(part.isidentifier() for part in target.split("."))
    ours = known and any(f"{target}.".startswith(f"{module}.") for module in MODULES.get(group_of(where), ()))
    if not ours and not (known and trust.is_trusted(target)):
        raise refusal(where, target)


def refusal(where: str, target: Any) -> UserError:
    modules = " or ".join(MODULES.get(group_of(where), ("a package that you trust",)))
    kind = {"model": "one of the nets", "analysis": "one of the analyses"}.get(where, "a class")
    return UserError(f"{where}._target_ must be {kind} of {modules}, got {target!r}; {trust.remedy(str(target))}")
