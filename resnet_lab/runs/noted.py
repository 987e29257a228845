"""Evaluations noted in a file beside a record, bound to the weights they are of. Standard library only."""

import fcntl
import json
from pathlib import Path
from typing import Any

from resnet_lab.checks import UserError
from resnet_lab.files import open_plain, read_json, write_atomically
from resnet_lab.runs.directory import now
from resnet_lab.runs.processes import rank

MOST_EVALUATIONS = 1_000  # in one file


def note_evaluation(path: Path, result: dict[str, Any]) -> None:
    """Add an evaluation to the file; one of the same protocol and weights is replaced."""
    if rank():
        return
    key = {"protocol", "run", "iteration", "weights", "members", "of"}
    with open_plain(path.with_name(f".{path.name}.lock"), "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two evaluations may end at once
        kept = [e for e in evaluations(path) if {k: e.get(k) for k in key} != {k: result.get(k) for k in key}]
        write_atomically(path, json.dumps([*kept, result | {"evaluated": now()}], indent=2) + "\n")


def evaluations(path: Path) -> list[dict[str, Any]]:
    """What `resnet-lab-eval` has noted there, or nothing."""
    if not path.exists():
        return []
    try:
        found: list[dict[str, Any]] = read_json(path)
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise ValueError("not a list of evaluations")
        if len(found) > MOST_EVALUATIONS:
            raise ValueError(f"more than {MOST_EVALUATIONS} evaluations")
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it and evaluate again") from error
    return found
