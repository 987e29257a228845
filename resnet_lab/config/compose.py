"""From Hydra's config to a frozen one: resolved, checked, plain. Imports no torch, so it answers at once."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resnet_lab.checks import UserError, check_safe, hint
from resnet_lab.config.blocks import check_blocks
from resnet_lab.config.rules import check_run_dir, check_values
from resnet_lab.config.targets import check_names
from resnet_lab.config.values import check_finite, is_integer, items
from resnet_lab.runs import first_weights, identity
from resnet_lab.runs.identity import DERIVED, sanitize

# The only variables that a config may read from the environment, which may hold keys and passwords.
VARIABLES = ("RESNET_LAB_DATA",)
NO_DEFAULT = object()
_HERE = Path(__file__).resolve().parent.parent
# inside the package in a wheel, beside it in a checkout
CONF = str(next(path for path in (_HERE / "conf", _HERE.parent / "conf") if path.is_dir()))


def register_resolvers() -> None:
    """`${run_name:}`, `${component:name}` of a path, `${fraction:n,a,b}`: a b-th of n, a times, rounded down;
    `${checksum:}` of the file of weights; and `${oc.env:NAME,default}` for the lab's own variables alone.
    """

    def run_name(*, _root_: DictConfig) -> str:
        return identity.run_name(plain(_root_))

    def fraction(whole: int, numerator: int, denominator: int) -> int:
        # clamp to 1, as a milestone or period of 0 is invalid; other types are reported as what they are
        return max(1, whole * numerator // denominator) if is_integer(whole, 1) else 1

    def checksum(*, _root_: DictConfig) -> str | None:
        keys = ("weights", "model", "seed", "output_root")
        return first_weights.checksum_where_there({key: to_plain(_root_[key]) for key in keys})

    def variable(name: str, default: Any = NO_DEFAULT) -> Any:
        if name not in VARIABLES:
            raise UserError(
                f"${{oc.env:{name}}} is not read, because records would keep it; there is {', '.join(VARIABLES)}"
            )
        if name not in os.environ and default is NO_DEFAULT:
            raise UserError(f"the environment variable {name} is not set; set it, or give a default")
        return os.environ.get(name, default)

    OmegaConf.register_new_resolver("oc.env", variable, replace=True)
    OmegaConf.register_new_resolver("checksum", checksum, replace=True)
    OmegaConf.register_new_resolver("component", sanitize, replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("fraction", fraction, replace=True)


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved blocks that identify a run, as plain types."""
    return {str(key): to_plain(config[key]) for key in config if key not in DERIVED}


def to_plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def freeze(config: DictConfig) -> dict[str, Any]:
    """The whole config, resolved and checked, as plain types; `run_dir` absolute.

    Raises:
        UserError: as `resolved`; or run_dir contradicts the other keys, or the weights do not exist.
    """
    frozen = resolved(config, "train")
    check_run_dir(frozen)
    first_weights.check(frozen)
    frozen["weights"] = first_weights.absolute(frozen["weights"])
    frozen["run_dir"] = os.path.abspath(frozen["run_dir"])
    return frozen


def resolved(config: DictConfig, name: str) -> dict[str, Any]:
    """The whole config of a command, conf/<name>.yaml, without Hydra's block, as plain types.

    Raises:
        UserError: a key does not exist, a value cannot be resolved or is out of range, or a `_target_` is not
            allowed.
    """
    check_safe()
    check_keys(config, name)
    try:
        plain_config = {str(key): to_plain(config[key]) for key in config if key != "hydra"}
    except OmegaConfBaseException as error:
        # OmegaConf puts this before our resolvers' messages
        cause = str(error).splitlines()[0].removeprefix("UserError raised while resolving interpolation: ")
        raise UserError(f"{error.full_key or 'the config'}: {cause}") from error
    check_names(plain_config)
    check_finite("", plain_config)
    check_blocks(plain_config)
    check_text("", plain_config)
    check_values(plain_config, name)
    return plain_config


def check_text(where: str, value: Any) -> None:
    """Refuse text that would be taken for an interpolation when it is read again."""
    if isinstance(value, str) and "${" in value:
        raise UserError(f"{where} must not hold ${{ once it is resolved, got {value!r}")
    for key, item in items(value):
        check_text(f"{where}.{key}".lstrip("."), item)


def check_keys(config: Mapping[Any, Any], name: str = "train") -> None:
    """Refuse top-level keys that conf/<name>.yaml does not have, which Hydra would merge silently."""
    keys, groups = keys_and_groups(name)
    known = [*keys, *groups]
    for key in config:
        if key not in known:
            raise UserError(f"{key} is not a key of the config; {hint(key, known)}")
    optional = {"hydra", "logger", *(group for group, choice in groups.items() if choice is None)}
    if missing := [key for key in known if key not in config and key not in optional]:
        raise UserError(f"{missing[0]} is missing from the config")


def keys_and_groups(name: str) -> tuple[list[str], dict[str, Any]]:
    """The keys of conf/<name>.yaml itself, and the groups in its defaults list, each with its choice."""
    base: Any = OmegaConf.to_container(OmegaConf.load(f"{CONF}/{name}.yaml"))
    choices = [entry for entry in base.pop("defaults") if isinstance(entry, dict)]  # all but `_self_`
    groups = {group: choice for entry in choices for group, choice in entry.items()}
    # an experiment changes other keys, and an override chooses in a group of Hydra's own
    blocks = {g: c for g, c in groups.items() if g != "experiment" and not g.startswith("override ")}
    return list(base), blocks
