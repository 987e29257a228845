"""Hydra's own errors, each as one sentence with what to type instead."""

import re
from collections.abc import Iterator
from typing import Any

from hydra.errors import (
    CompactHydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from resnet_lab.checks import UserError, closest, hint


def sentence(error: CompactHydraException) -> str:
    """The mistake in the command line or a config, and the remedy where it is known."""
    cause = error.__cause__
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, InstantiationException):  # of a launcher or sweeper
        return str(cause) if isinstance(cause, UserError) else in_one_line(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return missing(error.missing_cfg_file, list(error.options or ()))
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override} cannot be read ({in_one_line(error).partition(' See ')[0]}); write KEY=VALUE, and "
            "quote a value with spaces or symbols inside the shell's own quotes: 'output_root=\"my runs\"'"
        )
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)):
        return unknown(cause)
    if isinstance(cause, OmegaConfBaseException):
        return f"{in_one_line(error)}: {in_one_line(cause)}"
    said = in_one_line(error)
    if found := re.match("Ambiguous value for argument '(.*?)' 1. ", said):
        return f"{found[1]} has several values; add -m to run them all"
    if found := re.match(r"Could not append to config. .* Either remove \+ prefix: '(.*?)' Or add", said):
        return f"{found[1].partition('=')[0]} is in the config already; write {found[1]} without +"
    return said


def missing(name: str, options: list[str]) -> str:
    """The message for a group that has no file of that name."""
    group, _, option = name.rpartition("/")
    if not options:
        return f"there is no config {name}"
    return f"{group}={option} does not exist; {hint(option, options, f'{group}=')}"


def unknown(error: OmegaConfBaseException) -> str:
    """The message for a key that the config does not have, be it misspelt or in the wrong place."""
    key, parent = str(error.full_key), error.parent_node
    above, _, last = key.rpartition(".")
    known = [str(name) for name in parent if name != "hydra"] if isinstance(parent, DictConfig) else []
    if not known:
        return f"{key} is not a key of the config; {above} is a value and has no keys"
    elsewhere = [place for place in leaves(parent) if place.rpartition(".")[2] == last] if not above else []
    if elsewhere and not closest(last, known):
        return f"{key} is not a key of the config; did you mean {' or '.join(elsewhere)}?"
    return f"{key} is not a key of the config; {hint(last, known, f'{above}.' if above else '')}"


def leaves(node: Any, above: str = "") -> Iterator[str]:
    """The dotted names of everything below a node, except Hydra's own."""
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
        for key in node:
            if (name := above + str(key)) != "hydra":
                yield name
                yield from leaves(node._get_node(key), f"{name}.")


def in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
