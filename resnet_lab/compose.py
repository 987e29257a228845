"""From the command line to a frozen config in its run directory. Imports no torch, so it answers at once."""

import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from resnet_lab import record
from resnet_lab.checks import UserError
from resnet_lab.record import Run

_HERE = Path(__file__).resolve().parent
# inside the package in a wheel, beside it in a checkout
CONF = str(next(path for path in (_HERE / "conf", _HERE.parent / "conf") if path.is_dir()))


def register_resolvers() -> None:
    """`${run_name:}` and `${fraction:n,a,b}`, a b-th of n, a times, rounded down."""

    def run_name(*, _root_: DictConfig) -> str:
        return record.run_name(plain(_root_))

    def fraction(whole: int, numerator: int, denominator: int) -> int:
        return whole * numerator // denominator

    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("fraction", fraction, replace=True)


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved blocks that identify a run, as plain types."""
    return {str(key): to_plain(config[key]) for key in config if key not in record.UNRESOLVED}


def to_plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def freeze(config: DictConfig) -> dict[str, Any]:
    """The whole config, resolved and checked, as plain types; `run_dir` absolute.

    Raises:
        UserError: a key that is none of ours, or a value that cannot be resolved or is out of range.
    """
    check_keys(config)
    try:
        frozen = {str(key): to_plain(config[key]) for key in config if key != "hydra"}
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key or 'the config'}: {error.msg}") from error
    check_values(frozen)
    frozen["run_dir"] = os.path.abspath(frozen["run_dir"])
    return frozen


def check_keys(config: Mapping[Any, Any], name: str = "train") -> None:
    """Refuse top-level keys that conf/<name>.yaml does not have, which Hydra would merge in silence."""
    base: Any = OmegaConf.to_container(OmegaConf.load(f"{CONF}/{name}.yaml"))
    groups = [next(iter(entry)) for entry in base.pop("defaults") if isinstance(entry, dict)]
    known = [key for key in [*base, *groups] if "override" not in key and key != "experiment"]
    for key in config:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}"
            raise UserError(f"{key} is not a key of the config; {hint}")


def check_values(config: dict[str, Any]) -> None:
    """Refuse values that no constructor would see."""
    seed = config["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise UserError(f"seed must be an integer from 0 to 2**32 - 1, got {seed!r}")
    runtime = set(config["runtime"]) - {"threads", "channels_last", "compile", "huge_pages"}
    if runtime:
        raise UserError(
            f"runtime.{min(runtime)} is not a setting; there are threads, channels_last, compile, huge_pages"
        )
    threads = config["runtime"]["threads"]
    if threads is not None and (not isinstance(threads, int) or threads < 1):
        raise UserError(f"runtime.threads must be a positive integer or null, got {threads!r}")
    for key in ("channels_last", "compile", "huge_pages"):
        if not isinstance(config["runtime"][key], bool):
            raise UserError(f"runtime.{key} must be true or false, got {config['runtime'][key]!r}")
    for key in ("experiment_name", "run_name"):
        if config[key] != record.sanitize(str(config[key])):
            raise UserError(f"{key} must be letters, digits, dots, dashes and underscores, got {config[key]!r}")


def prepare(config: dict[str, Any]) -> Run | None:
    """The config's run directory with the config in it, or None if that run is complete already.

    Raises:
        UserError: the directory is in use, or holds another experiment's run.
    """
    run = Run(config["run_dir"])
    if owner := run.owner():
        raise UserError(f"{run.directory} is in use by {owner}; wait for it or stop it")
    before = run.record()
    if before and config["force"]:
        print(f"{run.directory} is set aside as {run.set_aside()}", file=sys.stderr)
    elif before and record.identity(before["config"]) != record.identity(config):
        raise UserError(f"{run.directory} holds a run of another config; choose another run_name")
    elif before.get("status") == "completed":
        print(f"{run.directory} is complete; force=true runs it anew", file=sys.stderr)
        return None
    run.config_path.parent.mkdir(parents=True, exist_ok=True)
    record.write_atomically(run.config_path, OmegaConf.to_yaml(config))
    return run


def command(run: Run) -> list[str]:
    """What runs the frozen config, in a process of its own."""
    return [sys.executable, "-m", "resnet_lab.run", str(run.directory)]


def environment(config: dict[str, Any]) -> dict[str, str]:
    """The environment for that process: some settings must be there when it starts."""
    environ = dict(os.environ)
    if config["runtime"]["huge_pages"] and sys.platform == "linux":
        environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    return environ
