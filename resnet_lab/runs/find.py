"""The run directories in a folder. Standard library only."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from resnet_lab.checks import UserError
from resnet_lab.runs.directory import Run
from resnet_lab.runs.plan import planned

# The name that force=true gives to a directory it sets aside.
SET_ASIDE = re.compile(r"\..+-until-\d{4}-\d\d-\d\dT\d{6}\+0000")


class Found(NamedTuple):
    """Run directories, and plans that cannot be used, with the reason."""

    directories: set[Path]
    left_out: dict[Path, str]


def find_runs(path: Path) -> Found:
    """The run directories at or under path, hidden ones left out, and the planned ones."""
    found = Found(set(), {})
    for folder, subfolders, files in os.walk(path):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        if "record.json" in files:
            found.directories.add(Path(folder))
            subfolders.clear()
        if "plan.json" in files:
            try:
                found.directories.update(Path(folder) / run for run in planned(Path(folder)))
            except (OSError, UserError) as error:
                found.left_out[Path(folder, "plan.json")] = str(error)
    return found


def find_set_aside(path: Path) -> set[Path]:
    """The directories at or under path that force=true has set aside, not following links."""
    found = {path} if is_set_aside(path) else set()
    for folder, subfolders, _ in os.walk(path):
        found.update(aside for name in subfolders if is_set_aside(aside := Path(folder, name)))
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
    return found


def is_set_aside(directory: Path) -> bool:
    return SET_ASIDE.fullmatch(directory.name) is not None and not directory.is_symlink() and directory.is_dir()


def run_at(path: Path) -> Run:
    """The run in a directory, or the one that a checkpoint belongs to.

    Raises:
        UserError: there is none.
    """
    path = path.expanduser().resolve()
    run = Run(path if path.is_dir() else path.parent.parent)
    if not run.record_path.exists():
        inside = sorted(found.parent for found in path.rglob("record.json"))[:1] if path.is_dir() else []
        remedy = f"did you mean {inside[0]}?" if inside else "give the folder of a run, one with a record.json"
        raise UserError(f"{path} holds no run; {remedy}")
    return run
