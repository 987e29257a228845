"""The runs of an experiment that were asked for: its plan.json. Standard library only."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path, PurePath

from resnet_lab.checks import UserError
from resnet_lab.files import open_plain, read_json, write_atomically

MOST_PLANNED = 10_000  # runs of an experiment


def add_to_plan(experiment: Path, directories: list[str]) -> None:
    """Note in the experiment's plan.json which runs were asked for, so that missing ones are noticed."""
    experiment.mkdir(parents=True, exist_ok=True)
    with locked(experiment):
        write(experiment, planned(experiment) | {os.path.relpath(run, experiment) for run in directories})


def drop_from_plan(experiment: Path, directory: Path) -> None:
    """Take a run out of the plan, if it is in there; a plan of none is removed."""
    if not (experiment / "plan.json").exists():
        return
    with locked(experiment):
        plan = planned(experiment)
        if (name := os.path.relpath(directory, experiment)) in plan:
            if rest := plan - {name}:
                write(experiment, rest)
            else:
                (experiment / "plan.json").unlink()


@contextlib.contextmanager
def locked(experiment: Path) -> Iterator[None]:
    with open_plain(experiment / ".plan.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two sweeps may add at once
        yield


def write(experiment: Path, plan: set[str]) -> None:
    write_atomically(experiment / "plan.json", json.dumps(sorted(plan), indent=2) + "\n")


def planned(experiment: Path) -> set[str]:
    """The run directories asked for, relative to the experiment's.

    Raises:
        UserError: the plan is damaged.
    """
    path = experiment / "plan.json"
    if not path.exists():
        return set()
    try:
        plan = read_json(path)
        if not isinstance(plan, list) or not all(isinstance(run, str) and is_inside(run) for run in plan):
            raise ValueError("not a list of folders in it")
        if len(plan) > MOST_PLANNED:
            raise ValueError(f"more than {MOST_PLANNED} runs")
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove it and run the sweep's command again") from error
    return set(plan)


def is_inside(name: str) -> bool:
    """Whether it stays inside the folder that it is relative to."""
    path = PurePath(name)
    return "\0" not in name and not path.is_absolute() and ".." not in path.parts
