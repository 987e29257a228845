"""The file of weights that training starts from, identified by its checksum. Imports no torch."""

import contextlib
import functools
import hashlib
import os
from pathlib import Path
from typing import Any

from resnet_lab.checks import UserError
from resnet_lab.files import open_regular
from resnet_lab.runs.directory import Run
from resnet_lab.runs.find import find_runs, run_at
from resnet_lab.runs.identity import OF, label

NEW, KEEP = "new", "keep"


def file_of(config: dict[str, Any]) -> Path:
    """The file itself, the last checkpoint of the completed run in a folder, or for `of:EXPERIMENT` that of the
    experiment's run of the same net and seed.

    Raises:
        UserError: it does not exist, or the run is not complete, so its weights may still change.
    """
    given = config["weights"]
    if not isinstance(given, str) or not given:
        raise UserError(f"weights must be a path (in quotes, if it is a number), got {given!r}")
    if given.startswith(OF):
        return same_net_in(given.removeprefix(OF), config).checkpoint_path
    path = Path(given).expanduser()
    if not path.exists():
        raise UserError(f"weights: {path} does not exist; give a file of weights or the folder of a completed run")
    if path.is_file():
        return path
    try:
        run = run_at(path)
        complete = run.is_complete()
    except UserError as error:
        raise UserError(f"weights: {error}") from error
    if not complete:
        raise UserError(
            f"weights: the run in {path} is {run.status()}, and its weights may change; give a completed run, or "
            "a copy of its checkpoint"
        )
    return run.checkpoint_path


def same_net_in(experiment: str, config: dict[str, Any]) -> Run:
    """The completed run of an experiment in the same output folder that has the config's net and seed.

    Raises:
        UserError: there is none, or there are several.
    """
    run_dir = Path(config.get("run_dir", ""))
    folder = Path(run_dir.parents[2] if run_dir.is_absolute() else config["output_root"], experiment)
    runs = [Run(directory) for directory in sorted(find_runs(folder).directories)]
    fitting = [run for run in runs if is_same_net(run, config) and run.is_complete()]
    if len(fitting) != 1:
        remedy = "give the folder of one" if fitting else f"run experiment={experiment} first"
        raise UserError(
            f"weights={OF}{experiment}: {folder} has {len(fitting)} completed runs of {label(config)} with seed "
            f"{config['seed']}; {remedy}"
        )
    return fitting[0]


def is_same_net(run: Run, config: dict[str, Any]) -> bool:
    other = run.record().get("config")
    return isinstance(other, dict) and all(other.get(key) == config[key] for key in ("model", "seed"))


def sha256_of(path: Path) -> str:
    """The checksum of the file's content, as `sha256sum` prints it.

    Raises:
        UserError: it cannot be read.
    """
    try:
        state = path.stat()
        return _sha256(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise UserError(f"weights: {path} cannot be read: {error.strerror}") from error


@functools.cache
def _sha256(path: Path, changed: int, size: int) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_where_there(config: dict[str, Any]) -> str | None:
    """The checksum of the file that the key `weights` names; None if there is none, as `check` explains."""
    with contextlib.suppress(UserError):
        return None if config["weights"] is None else sha256_of(file_of(config))
    return None


def check(config: dict[str, Any]) -> None:
    """Refuse weights that do not exist or do not match the checksum, and keys that need weights.

    Raises:
        UserError: one of these is found.
    """
    if config["weights"] is None:
        if config["weights_head"] == NEW or config["weights_sha256"] is not None:
            key = "weights_head=new" if config["weights_head"] == NEW else "weights_sha256"
            raise UserError(f"{key} needs weights=FILE, the weights to start from")
        return
    if config["job"] != "train":
        raise UserError(f"weights are for job=train, got job={config['job']}; leave them out")
    checked_file(config)


def checked_file(config: dict[str, Any]) -> Path:
    """The file of the config's weights, with the content that identifies the run.

    Raises:
        UserError: it does not exist, or has another checksum.
    """
    path = file_of(config)
    if (found := sha256_of(path)) != config.get("weights_sha256"):
        raise UserError(
            f"weights: {path} has the sha256 {found[:12]}..., but the run starts from "
            f"{str(config.get('weights_sha256'))[:12]}...; put that file there"
        )
    return path


def absolute(given: str | None) -> str | None:
    return given if given is None or given.startswith(OF) else os.path.abspath(Path(given).expanduser())
