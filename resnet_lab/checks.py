"""Errors that name the argument, what is allowed and what was given."""

import difflib
import importlib
import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any


class UserError(Exception):
    """Something the user can mend: shown as one message, without a traceback."""


def check_positive(**sizes: int) -> None:
    """Raise ValueError unless each size is a positive integer."""
    check_at_least(1, **sizes)


def check_at_least(least: int, **sizes: int) -> None:
    """Raise ValueError unless each size is an integer not below `least`."""
    allowed = {0: "zero or a positive integer", 1: "a positive integer"}.get(least, f"an integer >= {least}")
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < least:
            raise ValueError(f"{name} must be {allowed}, got {size!r}")


def check_choice(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise ValueError unless value is one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")


def closest(name: object, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one is most like, if it is like any."""
    return next(iter(difflib.get_close_matches(str(name), list(known), 1)), None)


def hint(name: object, known: Collection[str], above: str = "") -> str:
    """A suggestion in place of an unknown name: the closest known one (after `above`), or the list of all."""
    meant = closest(name, known)
    return f"did you mean {above}{meant}?" if meant else f"there are {', '.join(sorted(known))}"


def check_safe(environ: Mapping[str, str] = os.environ) -> None:
    """Refuse the variable that has torch unpickle whatever a checkpoint holds."""
    if environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "0") not in ("", "0"):
        raise UserError("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set, and would let a checkpoint run code; unset it")


def library(name: str, needed_for: str, extra: str = "export") -> Any:
    """The module of an optional dependency; raise UserError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise UserError(f"{needed_for} needs {package}: pip install 'resnet-lab[{extra}]'") from error
