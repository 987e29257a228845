"""Rules for single values of a config, and the words in which they refuse one. Imports no torch."""

import math
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

from resnet_lab.checks import UserError, hint
from resnet_lab.runs.identity import sanitize


class Rule(NamedTuple):
    """A test of a value, and what is allowed in words that follow `must be`."""

    allows: Callable[[Any], Any]
    allowed: str
    then: str = ","


def check(key: str, value: Any, rule: Rule) -> None:
    """Raise UserError unless the rule allows the value of that key."""
    if not rule.allows(value):
        raise UserError(f"{key} must be {rule.allowed}{rule.then} got {value!r}")


def check_known(block: str, settings: Iterable[str], known: Collection[str]) -> None:
    """Raise UserError unless each setting of the block is one of those known."""
    for name in settings:
        if name not in known:
            raise UserError(f"{block}.{name} is not a setting here; {hint(name, known, f'{block}.')}")


def check_finite(where: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} must be a finite number, got {value!r}")
    for key, item in items(value):
        check_finite(f"{where}.{key}".lstrip("."), item)


def items(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()


def is_integer(value: object, least: int, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: object, least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < math.inf


def is_name(value: object) -> bool:
    return isinstance(value, str) and value == sanitize(value)


def is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(is_name(name) for name in value)


def is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def or_null(rule: Rule) -> Rule:
    return Rule(lambda value: value is None or rule.allows(value), f"null or {rule.allowed}", rule.then)


def one_of(*words: str) -> Rule:
    return Rule(lambda value: value in words, f"one of {', '.join(words)}", ";")


NAME = Rule(is_name, "letters, digits, dots, dashes and underscores, at most 80")
SWITCH = Rule(lambda value: isinstance(value, bool), "true or false")
SWITCH_OR_NULL = Rule(lambda value: value is None or isinstance(value, bool), "true, false or null")
FOLDER = Rule(is_text, "a folder")
NOT_FROM_HOME = Rule(lambda value: is_text(value) and value[0] != "~", "a folder, its path in full without ~")
SEED = Rule(lambda value: is_integer(value, 0, 2**32 - 1), "an integer from 0 to 2**32 - 1")
TARGET = Rule(is_text, "the dotted name of a class or function")
FACTORY = Rule(lambda value: value is True, "true, as it is finished once the network is there")
COUNT = Rule(lambda value: is_integer(value, 1), "a positive integer")
COUNT_OR_NULL = Rule(lambda value: value is None or is_integer(value, 1), "a positive integer")
NOT_NEGATIVE = Rule(lambda value: is_number(value, 0), "a number, 0 or more")
SECONDS = Rule(lambda value: is_number(value, 1), "a number of seconds, 1 or more")
