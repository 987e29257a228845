"""Deleting runs: only those named, none through a link, none in use. Standard library only."""

import contextlib
import os
import shutil
from pathlib import Path

from resnet_lab.checks import UserError
from resnet_lab.runs.directory import Run
from resnet_lab.runs.find import is_set_aside
from resnet_lab.runs.plan import drop_from_plan


def remove(directory: Path) -> None:
    """Delete a run directory, if it is there, and take the run out of its experiment's plan.

    Raises:
        UserError: it is in use, is not a run directory, is reached through a link, or cannot be deleted.
    """
    aside = is_set_aside(directory)
    try:
        if os.path.lexists(directory):
            delete(directory, aside)
        if not aside:
            drop_from_plan(directory.parent.parent, directory)
    except BlockingIOError as error:
        raise UserError(f"{error}; wait for it or stop it") from error
    except OSError as error:
        raise UserError(f"{directory} cannot be removed ({error})") from error
    with contextlib.suppress(OSError):  # other seeds are left
        directory.parent.rmdir()


def delete(directory: Path, aside: bool) -> None:
    if os.path.realpath(directory) != str(directory):
        raise UserError(f"{directory} is reached through a symbolic link, which is not followed; name the folder")
    run = Run(directory)
    if not aside and not run.record_path.is_file():
        raise UserError(f"{directory} has no record.json and may not be a run; delete it yourself if you are sure")
    with run.ownership():
        # a launch that waits for the lock never finds a half-deleted directory
        shutil.rmtree(directory if aside else run.set_aside())
