"""From Hydra's config to a frozen one: resolved, checked, plain. Imports no torch, so it answers at once."""

import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resnet_lab.checks import UserError, check_safe
from resnet_lab.config.targets import check_names
from resnet_lab.runs import identity
from resnet_lab.runs.identity import UNRESOLVED, sanitize
from resnet_lab.runs.jobs import NAMES, job_of
from resnet_lab.runs.processes import CORES

# All that a config may read of the environment, which may hold keys and passwords.
VARIABLES = ("RESNET_LAB_DATA",)
NO_DEFAULT = object()
_HERE = Path(__file__).resolve().parent.parent
# inside the package in a wheel, beside it in a checkout
CONF = str(next(path for path in (_HERE / "conf", _HERE.parent / "conf") if path.is_dir()))


def register_resolvers() -> None:
    """`${run_name:}`, `${component:name}` of a path, `${fraction:n,a,b}`: a b-th of n, a times, rounded down;
    and `${oc.env:NAME,default}` for the lab's own variables alone.
    """

    def run_name(*, _root_: DictConfig) -> str:
        return identity.run_name(plain(_root_))

    def fraction(whole: int, numerator: int, denominator: int) -> int:
        # at least 1: a milestone or a period of 0 is none; what is no number is refused under its own name
        return max(1, whole * numerator // denominator) if is_integer(whole, 1) else 1

    def variable(name: str, default: Any = NO_DEFAULT) -> Any:
        if name not in VARIABLES:
            raise UserError(
                f"${{oc.env:{name}}} is not read, as records would keep it; there is {', '.join(VARIABLES)}"
            )
        if name not in os.environ and default is NO_DEFAULT:
            raise UserError(f"the environment has no {name}; set it, or give a default")
        return os.environ.get(name, default)

    OmegaConf.register_new_resolver("oc.env", variable, replace=True)
    OmegaConf.register_new_resolver("component", sanitize, replace=True)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("fraction", fraction, replace=True)


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved blocks that identify a run, as plain types."""
    return {str(key): to_plain(config[key]) for key in config if key not in UNRESOLVED}


def to_plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def freeze(config: DictConfig) -> dict[str, Any]:
    """The whole config, resolved and checked, as plain types; `run_dir` absolute.

    Raises:
        UserError: a key that is none of ours, or a value that cannot be resolved or is out of range.
    """
    check_safe()
    frozen = resolved(config, "train")
    check_values(frozen)
    frozen["run_dir"] = os.path.abspath(frozen["run_dir"])
    return frozen


def resolved(config: DictConfig, name: str) -> dict[str, Any]:
    """The whole config of a command, conf/<name>.yaml, without Hydra's block, as plain types.

    Raises:
        UserError: a key that is none of ours, a value that cannot be resolved, or a `_target_` not allowed.
    """
    check_keys(config, name)
    try:
        plain_config = {str(key): to_plain(config[key]) for key in config if key != "hydra"}
    except OmegaConfBaseException as error:
        # OmegaConf puts this before what a resolver of ours says
        cause = str(error).splitlines()[0].removeprefix("UserError raised while resolving interpolation: ")
        raise UserError(f"{error.full_key or 'the config'}: {cause}") from error
    check_names(plain_config)
    check_text("", plain_config)
    return plain_config


def check_text(where: str, value: Any) -> None:
    """Refuse text that would be taken for an interpolation when it is read again."""
    if isinstance(value, str) and "${" in value:
        raise UserError(f"{where} must not hold ${{ once it is resolved, got {value!r}")
    for key, item in items(value):
        check_text(f"{where}.{key}".lstrip("."), item)


def check_keys(config: Mapping[Any, Any], name: str = "train") -> None:
    """Refuse top-level keys that conf/<name>.yaml does not have, which Hydra would merge in silence."""
    base: Any = OmegaConf.to_container(OmegaConf.load(f"{CONF}/{name}.yaml"))
    groups = dict(next(iter(entry.items())) for entry in base.pop("defaults") if isinstance(entry, dict))
    groups.pop("experiment", None)
    known = [key for key in [*base, *groups] if "override" not in key]
    for key in config:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
            raise UserError(f"{key} is not a key of the config; {hint}")
    optional = {"hydra", *(group for group, chosen in groups.items() if chosen is None)}
    if missing := [key for key in known if key not in config and key not in optional]:
        raise UserError(f"{missing[0]} is missing from the config")


def check_values(config: dict[str, Any]) -> None:
    """Refuse what no constructor would see: the top level, the runtime, numbers that are none."""
    for key, (good, allowed) in RULES.items():
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not good(value):
            raise UserError(f"{key} must be {allowed}, got {value!r}")
    known = [key.removeprefix("runtime.") for key in RULES if key.startswith("runtime.")]
    if unknown := set(config["runtime"]) - set(known):
        raise UserError(f"runtime.{min(unknown)} is not a setting; there are {', '.join(known)}")
    check_finite("", config)
    if Path(config["run_dir"]) != Path(
        config["output_root"], config["experiment_name"], config["run_name"], f"seed{config['seed']}"
    ):
        raise UserError("run_dir follows from output_root, experiment_name, run_name and seed; set these")


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


def is_devices(value: object) -> bool:
    return value in (None, "auto", -1) or isinstance(value, list) or is_integer(value, 1)


def is_name(value: object) -> bool:
    return isinstance(value, str) and value == sanitize(value)


NAME = (is_name, "letters, digits, dots, dashes and underscores, at most 80")
SWITCH = (lambda value: isinstance(value, bool), "true or false")
BLOCK = (lambda value: isinstance(value, str) and value, "the dotted name of a class or function")
FACTORY = (lambda value: value is True, "true, as it is finished once the network is there")
RULES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "seed": (lambda value: is_integer(value, 0, 2**32 - 1), "an integer from 0 to 2**32 - 1"),
    "iterations": (lambda value: is_integer(value, 1), "a positive integer"),
    "job": (lambda value: job_of({"job": value}), NAMES),
    "force": SWITCH,
    "output_root": (lambda value: isinstance(value, str) and value, "a folder"),
    "run_dir": (lambda value: isinstance(value, str) and value, "a folder"),
    "experiment_name": NAME,
    "run_name": NAME,
    "model._target_": BLOCK,
    "data._target_": BLOCK,
    "optimizer._target_": BLOCK,
    "optimizer._partial_": FACTORY,
    "schedule._target_": BLOCK,
    "schedule._partial_": FACTORY,
    "trainer._target_": BLOCK,
    "trainer.devices": (is_devices, "a number, a list of GPUs or auto"),
    "trainer.num_nodes": (lambda value: value is None or is_integer(value, 1), "a positive integer"),
    "verdict.margin": (
        lambda value: value is None or (is_number(value, 0) and value > 0),
        "null or a positive number of points",
    ),
    "runtime.threads": (
        lambda value: value is None or is_integer(value, 1, CORES),
        f"null or from 1 to {CORES}",
    ),
    "runtime.channels_last": SWITCH,
    "runtime.compile": SWITCH,
    "runtime.activation_checkpointing": SWITCH,
    "runtime.huge_pages": SWITCH,
    "runtime.save_every": (lambda value: is_number(value, 1), "a number of seconds, 1 or more"),
    "runtime.accept_changes": SWITCH,
    "runtime.timeout": (lambda value: is_number(value, 1), "a number of seconds, 1 or more"),
}
