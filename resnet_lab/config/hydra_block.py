"""Checks of the `hydra:` block, on which Hydra acts before any code of the lab runs.

A callback, an environment variable or a logging handler in it could run a command. So each key of the block must
be as the lab's own config has it, but for a few that only choose a sweep; settings of a launcher that end up in a
shell are taken from the command line and from no file.
"""

import functools
import re
from collections.abc import Iterator
from typing import Any

from hydra._internal import hydra as hydra_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resnet_lab import trust
from resnet_lab.checks import UserError
from resnet_lab.config.compose import CONF
from resnet_lab.config.shrink import shrink, without_smoke


class Refused(UserError, CompactHydraException):
    """An error that Hydra also shows as a single message."""


# What runs, and how it is shown; `overrides` and `runtime` are Hydra's own notes.
FREE = {
    "mode",
    "searchpath",
    "help",
    "hydra_help",
    "verbose",
    "overrides",
    "runtime",
    "job.name",
    "job.num",
    "job.id",
    "job.config_name",
    "job.override_dirname",
    "job.config",
}
PLUGINS = ("launcher", "sweeper")
# Settings that a file may give besides those of its default config; all others belong on the command line.
SETTINGS = {
    "hydra_plugins.resnet_lab.PoolLauncher": ("pool", {"n_jobs", "on_failure"}),
    "hydra_plugins.resnet_lab.SlurmLauncher": (
        "slurm",
        {
            "timeout_min",
            "max_num_timeout",
            "signal_delay_s",
            "array_parallelism",
            "name",
            "comment",
            "cpus_per_task",
            "cpus_per_gpu",
            "gpus_per_node",
            "gpus_per_task",
            "tasks_per_node",
            "nodes",
            "mem_gb",
            "mem_per_cpu",
            "mem_per_gpu",
            "partition",
            "qos",
            "account",
            "constraint",
            "exclude",
            "gres",
        },
    ),
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher": ("basic", set()),
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper": ("basic", {"params", "max_batch_size"}),
    "hydra_plugins.resnet_lab.SearchSweeper": ("search", {"params", "n_trials", "batch", "seed"}),
    "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper": (
        "optuna",
        {"sampler", "direction", "study_name", "n_trials", "n_jobs", "max_failure_rate", "params", "search_space"},
    ),
}
SAMPLER = re.compile(r"sweeper\.sampler(\..+)?=optuna\.samplers\.[A-Z]\w*")
REMEDIES = {
    "callbacks": "leave it out",
    "job.env_set": "set variables in the shell that starts the command",
    "job.env_copy": "set variables in the shell that starts the command",
    "job.chdir": "set output_root",
    "job_logging": "each run has its train.log",
    "hydra_logging": "each run has its train.log",
    "run": "set output_root, experiment_name or run_name",
    "sweep": "set output_root, experiment_name or run_name",
    "output_subdir": "each run has its .hydra/config.yaml",
}


class Loader(ConfigLoaderImpl):
    """Hydra's loader of configs, which refuses a `hydra:` block before anything acts on it."""

    def load_configuration(
        self, config_name: str | None, overrides: list[str], *arguments: Any, **options: Any
    ) -> DictConfig:
        check_one_study(overrides)
        composed = without_smoke(overrides)
        cfg = super().load_configuration(config_name, composed, *arguments, **options)
        try:
            check(cfg, config_name, composed)
            if composed != overrides:
                shrink(cfg, composed)
                # a sweep composes each of its jobs from these
                noted = dict(zip(composed, overrides, strict=True))
                cfg.hydra.overrides.task = [noted[line] for line in cfg.hydra.overrides.task]
        except OmegaConfBaseException as error:
            raise Refused(f"{error.full_key or 'hydra'}: {str(error).splitlines()[0]}") from error
        return cfg

    def _process_config_searchpath(self, config_name: str | None, parsed_overrides: Any, repo: Any) -> None:
        primary = repo.load_config(config_name) if config_name else None
        typed = [o.value() for o in parsed_overrides if o.get_key_element() == "hydra.searchpath"]
        for place in (OmegaConf.select(primary.config, "hydra.searchpath") if primary else None, *typed):
            for path in place or ():
                check_place(str(path))
        super()._process_config_searchpath(config_name, parsed_overrides, repo)


def check_one_study(overrides: list[str]) -> None:
    """Refuse a sweep over experiments, which would ignore the sweep that each of them has."""
    for override in OverridesParser.create().parse_overrides(overrides):
        if override.key_or_group == "experiment" and override.is_sweep_override():
            swept = str(override.input_line).partition("=")[2]
            commands = "; ".join(f"resnet-lab experiment={name}" for name in swept.split(","))
            raise Refused(
                f"experiment={swept} would ignore the sweep that each experiment has; give each its own command: "
                f"{commands}"
            )


def check_place(path: str) -> None:
    """Refuse configs in an untrusted package, since looking for them imports it."""
    scheme, _, package = path.rpartition("://")
    if scheme == "pkg" and not trust.is_trusted(package.replace("/", ".")):
        raise Refused(f"hydra.searchpath: {path} would be imported; {trust.remedy(package.replace('/', '.'))}")


def register() -> None:
    """Have Hydra load every config by the loader above."""
    hydra_module.ConfigLoaderImpl = Loader  # type: ignore[attr-defined,misc]


def check(cfg: DictConfig, config_name: str | None, overrides: list[str]) -> None:
    """Refuse keys of the `hydra:` block that are neither free nor as the lab has them.

    Raises:
        Refused: there is one, or a `_target_` does not name a launcher, sweeper or sampler.
    """
    block = raw(cfg.hydra)
    ours = reference(config_name)
    for key, value in leaves(without(block, PLUGINS)):
        if not begins(key, FREE) and not same(value, ours.get(key)):
            raise Refused(f"hydra.{key} cannot be set; {remedy(key)}")
    for name in PLUGINS:
        check_plugin(name, cfg, overrides)
    for key, target in leaves(without(block, PLUGINS)):
        if key.endswith("_target_"):
            raise Refused(f"hydra.{key} cannot be set, got {target!r}; leave it out")
    noted = block["overrides"]
    if sorted([*noted["hydra"], *noted["task"]]) != sorted(overrides):
        raise Refused("hydra.overrides cannot be set; give the values, or sweep by hydra.sweeper.params")


def check_plugin(name: str, cfg: DictConfig, overrides: list[str]) -> None:
    """Refuse launcher or sweeper settings that a file may not give, and objects smuggled in."""
    block = raw(cfg.hydra[name]) or {}
    chosen: str | None = cfg.hydra.runtime.choices.get(f"hydra/{name}")
    choice, free = SETTINGS.get(str(block.get("_target_")), (chosen, set()))
    ours = plugin(name, choice)
    for key, value in leaves(block):
        if begins(key, free) or same(value, ours.get(key)) or is_typed(f"hydra.{name}.{key}", overrides):
            continue
        raise Refused(f"hydra.{name}.{key} cannot be set by a file, got {value!r}; give it on the command line")
    for key, value in leaves(OmegaConf.to_container(cfg.hydra[name], resolve=True)):
        where = f"{name}.{key}"
        if where.endswith("._target_"):
            if key != "_target_" and not SAMPLER.fullmatch(f"{where.removesuffix('._target_')}={value}"):
                raise Refused(f"hydra.{where} cannot be set, got {value!r}; leave it out")
            if key == "_target_" and not same(value, ours.get(key)):
                raise Refused(f"hydra.{where} is not that of {choice}, got {value!r}; choose by hydra/{name}=...")
        if isinstance(value, str) and ("${" in value or re.search(r"[\x00-\x1f\x7f]", value)):
            raise Refused(f"hydra.{where} must be one line without ${{, got {value!r}")


@functools.cache
def reference(config_name: str | None, *overrides: str) -> dict[str, Any]:
    """The leaves of the `hydra:` block that the lab's own config of that name has."""
    loader = ConfigLoaderImpl(create_config_search_path(f"file://{CONF}"))
    known = config_name if config_name is None or loader.repository.config_exists(config_name) else "train"
    cfg = loader.load_configuration(known, list(overrides), RunMode.RUN, validate_sweep_overrides=False)
    return dict(leaves(raw(cfg.hydra)))


def plugin(name: str, choice: str | None) -> dict[str, Any]:
    """The leaves of the default config of a launcher or sweeper, as installed."""
    try:
        found = reference("train", f"hydra/{name}={choice}")
    except CompactHydraException as error:
        raise Refused(
            f"hydra/{name}={choice} is neither the lab's nor that of an installed plugin of Hydra; choose another"
        ) from error
    return {key.removeprefix(f"{name}."): value for key, value in found.items() if key.startswith(f"{name}.")}


def is_typed(key: str, overrides: list[str]) -> bool:
    """Whether the command line sets this key, or a dict that contains it."""
    given = [override.key_or_group for override in OverridesParser.create().parse_overrides(overrides)]
    return begins(key, given)


def begins(key: str, names: Any) -> bool:
    return any(f"{key}.".startswith(f"{name}.") for name in names)


def same(value: Any, ours: Any) -> bool:
    return (value in (None, {}, []) and ours in (None, {}, [])) or value == ours


def raw(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node


def without(block: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if key not in keys}


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of each leaf: anything but a dict or list with entries."""
    if isinstance(value, (dict, list)) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, f"{name}.{key}".lstrip("."))
    else:
        yield name, value


def remedy(key: str) -> str:
    return next((what for name, what in REMEDIES.items() if begins(key, [name])), "leave it out")
