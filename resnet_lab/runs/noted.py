"""Measurements on a run's weights, noted beside its record and bound to them. Standard library only.

evaluations.json (an ensemble's: ensembles.json) has errors by protocols; analyses.json says of which weights and
settings the rows in each file in analyses/ are.
"""

import fcntl
import json
from pathlib import Path
from typing import Any

from resnet_lab.checks import UserError
from resnet_lab.files import open_plain, read_json, write_atomically
from resnet_lab.runs.directory import now
from resnet_lab.runs.processes import rank

MOST_ENTRIES = 1_000  # in one file


def note_evaluation(path: Path, result: dict[str, Any]) -> None:
    """Add an evaluation to the file; one of the same protocol and weights is replaced."""
    note(path, result | {"evaluated": now()}, {"protocol", "run", "iteration", "weights", "members", "of"})


def note_analysis(path: Path, entry: dict[str, Any]) -> None:
    """Add an analysis to the file; one with the same file of rows is replaced."""
    note(path, entry | {"analyzed": now()}, {"file"})


def note(path: Path, entry: dict[str, Any], key: set[str]) -> None:
    """Add the entry, in place of one with the same values of the key."""
    if rank():
        return
    with open_plain(path.with_name(f".{path.name}.lock"), "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two may end at once
        kept = [e for e in entries(path) if {k: e.get(k) for k in key} != {k: entry.get(k) for k in key}]
        write_atomically(path, json.dumps([*kept, entry], indent=2) + "\n")


def evaluations(path: Path) -> list[dict[str, Any]]:
    """The entries of `resnet-lab-eval`, if any."""
    return entries(path)


def entries(path: Path) -> list[dict[str, Any]]:
    """All entries of the file, if any.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return []
    kind = path.stem
    try:
        found: list[dict[str, Any]] = read_json(path)
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise ValueError(f"not a list of {kind}")
        if len(found) > MOST_ENTRIES:
            raise ValueError(f"more than {MOST_ENTRIES} {kind}")
    except ValueError as error:
        again = "analyze" if kind == "analyses" else "evaluate"
        raise UserError(f"{path} is damaged ({error}); remove it and {again} again") from error
    return found
