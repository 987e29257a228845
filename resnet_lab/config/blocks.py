"""Checks of a block that need no import: its target, its settings, their types and ranges, a net's choices."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from resnet_lab import families, trust
from resnet_lab.checks import UserError, closest, hint
from resnet_lab.config.ranges import check_ranges
from resnet_lab.config.signatures import Missing, settings_of

# What each kind of constructor is given by the lab, and not by the config.
FACTS = {
    "model": {"in_channels", "num_classes"},
    "data": {"seed"},
    "task": set(),
    "optimizer": {"params"},
    "schedule": {"optimizer"},
    "analysis": {"net", "data", "initial", "done"},
}
NAMED_FACTS: dict[str, set[str]] = {
    "callbacks": set(),
    "logger": {"directory", "iteration", "experiment", "title"},
}  # of each block in a group of such
# What is for the lab, and not for the constructor.
OWN_KEYS = {"analysis": ("_target_", "at", "plot")}
# By a constructor's annotation; the values of a config are never tensors.
TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "an integer"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "None": ((type(None),), "null"),
}


def check_blocks(config: dict[str, Any]) -> None:
    """Refuse a block whose target is not there, or does not take its settings.

    Raises:
        UserError: there is one. `build` judges what only an import can tell.
    """
    for block, facts, settings in blocks(config):
        if not isinstance(settings, dict) or not (target := settings.get("_target_")) or trust.is_trusted(target):
            continue
        try:
            taken = settings_of(target)
        except Missing as error:
            raise UserError(f"{block}._target_: there is no {target!r}") from error
        if taken is None:
            continue
        given = {
            name: value
            for name, value in settings.items()
            if name not in OWN_KEYS.get(block, ("_target_", "_partial_"))
        }
        check_settings(block, target.rpartition(".")[2], given, set(taken), facts & set(taken))
        for name, value in given.items():
            check_type(f"{block}.{name}", value, taken[name])
        check_together(block, target, given)


def blocks(config: dict[str, Any]) -> Iterator[tuple[str, set[str], Any]]:
    """Each block of one constructor, with what the lab gives to it and its settings."""
    yield from ((block, facts, config.get(block)) for block, facts in FACTS.items())
    for group, facts in NAMED_FACTS.items():
        of_group = config.get(group)
        if isinstance(of_group, dict):
            yield from ((f"{group}.{name}", facts, block) for name, block in of_group.items())


def check_settings(
    block: str, constructor: str, given: Iterable[str], taken: Collection[str], facts: Collection[str]
) -> None:
    """Refuse a setting that the constructor does not take, naming one that it does, or what to leave out."""
    for name in given:
        if name in facts:
            raise UserError(f"{block}.{name} is set by the lab; leave it out")
        if name not in taken:
            known = set(taken) - set(facts)
            otherwise = f"leave it out (~{block}.{name}); it takes {', '.join(sorted(known))}"
            remedy = hint(name, known, f"{block}.") if closest(name, known) else otherwise
            raise UserError(f"{block}.{name} is not a setting of {constructor}; {remedy}")


def check_type(key: str, value: Any, annotation: str) -> None:
    """Refuse a value that is not of one of the annotation's types; what is not a plain type is not judged."""
    kinds = [kind for kind in annotation.split(" | ") if kind != "Tensor"]
    if not all(kind in TYPES for kind in kinds) or isinstance(value, dict):
        return
    # True is an int to Python, and not to people
    if not any(isinstance(value, TYPES[k][0]) and isinstance(value, bool) == (k == "bool") for k in kinds):
        allowed = " or ".join(TYPES[kind][1] for kind in kinds)
        raise UserError(f"{key} must be {allowed}, got {value!r}")


def check_together(block: str, target: str, given: dict[str, Any]) -> None:
    try:
        families.check_net(target, given)
        check_ranges(block, target, given)
    except ValueError as error:
        raise UserError(f"{block}: {error}") from error
