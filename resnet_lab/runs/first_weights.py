"""The file of weights that training starts from, identified by its checksum. Imports no torch."""

import contextlib
import functools
import hashlib
import os
from pathlib import Path
from typing import Any

from resnet_lab.checks import UserError
from resnet_lab.files import open_regular
from resnet_lab.runs.find import run_at

NEW, KEEP = "new", "keep"


def file_of(given: Any) -> Path:
    """The file itself, or the last checkpoint of the completed run in a folder.

    Raises:
        UserError: it does not exist, or the run is not complete, so its weights may still change.
    """
    if not isinstance(given, str) or not given:
        raise UserError(f"weights must be a path (in quotes, if it is a number), got {given!r}")
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


def checksum_where_there(given: Any) -> str | None:
    """The checksum of the file that the key `weights` names; None if there is none, as `check` explains."""
    with contextlib.suppress(UserError):
        return None if given is None else sha256_of(file_of(given))
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
    path = file_of(config["weights"])
    if (found := sha256_of(path)) != config.get("weights_sha256"):
        raise UserError(
            f"weights: {path} has the sha256 {found[:12]}..., but the run starts from "
            f"{str(config.get('weights_sha256'))[:12]}...; put that file there"
        )
    return path


def absolute(given: str | None) -> str | None:
    return None if given is None else os.path.abspath(Path(given).expanduser())
