"""From a frozen config to its run directory and the process that runs it. Imports no torch."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from resnet_lab import trust
from resnet_lab.checks import UserError
from resnet_lab.files import unusable, write_atomically
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of, run_differences
from resnet_lab.runs.jobs import trains
from resnet_lab.runs.processes import NO_GPU, check_place, lacks_gpu, python
from resnet_lab.text import one_line

TUNABLES = "GLIBC_TUNABLES"  # read only when a process starts
BY_HAND = tuple(f"resnet_lab.data.{name}" for name in ("ImageFolder", "ImageNet", "VOC", "COCO"))
FOLLOW = 60.0  # seconds that the other processes wait for the first


class InUse(UserError):
    """Another launch runs in the directory now."""


def prepare(config: dict[str, Any], command: Sequence[str] = ()) -> Run | None:
    """Prepare the config's run directory, with the config in it; return None if that run is complete already.

    The record notes the `command`, the words that were typed.

    Raises:
        InUse: another launch runs there now.
        UserError: the directory is damaged, cannot be written, or holds another run; or the machine lacks the
            devices or the data.
    """
    check_machine(config)
    run = Run(config["run_dir"])
    try:
        with run.ownership():
            if config["force"] and is_to_be_set_aside(run, config):
                print(f"{run.directory} is set aside as {run.set_aside()}", file=sys.stderr)
            run.check_writable()
            before = run.record()
            check_same_run(run, before, config)
            if run.is_complete():
                print(f"{run.directory} is complete; force=true runs it anew", file=sys.stderr)
                return None
            if before.get("status") == "completed":
                said = f"{run.record_path} says completed, but neither it nor the curve ends at the last iteration"
                print(f"{said}; resuming", file=sys.stderr)
            run.config_path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(run.config_path, OmegaConf.to_yaml(config))
            noted = {"command": list(command)} if command else {}
            # so that the directory is this run's from now on
            run.update(**({} if before else {"status": "running", "config": config}), **noted)
    except BlockingIOError as error:
        raise InUse(f"{error}; wait for it or stop it") from error
    except OSError as error:
        raise unusable(run.directory, error) from error
    return run


def check_machine(config: dict[str, Any]) -> None:
    """Refuse a run for which this machine lacks the devices or the data; a complete one needs none.

    Raises:
        UserError: it needs another number of processes than can be had, a GPU where there is none, or a folder of
            images that is not there.
    """
    check_place(config["trainer"])
    if (lack := lacking(config)) and (config["force"] or not Run(config["run_dir"]).is_complete()):
        raise UserError(lack)


def lacking(config: dict[str, Any]) -> str | None:
    """What this machine lacks for the run, and what to do about it."""
    if lacks_gpu(config["trainer"]):
        return NO_GPU.format(config["trainer"]["accelerator"])
    target, root = config["data"]["_target_"], config["data"].get("root")
    if not trains(config) or target not in BY_HAND or root is None or Path(root).expanduser().is_dir():
        return None
    return (
        f"data.root={one_line(root)} is not a folder, and these images are not downloaded; give data.root=FOLDER"
    )


def is_to_be_set_aside(run: Run, config: dict[str, Any]) -> bool:
    """Whether force=true still has to do it: a forced run that was interrupted resumes as usual, if it can."""
    try:
        before = run.record()
    except UserError:  # damaged
        return True
    begun_by_force = isinstance(before.get("config"), dict) and before["config"].get("force") is True
    if not before or before.get("status") == "completed" or not begun_by_force:
        return bool(before)
    return before.get("status") == "failed" or bool(run_differences(before["config"], config))


def wait_for_first_process(config: dict[str, Any]) -> Run | None:
    """The run directory, once the first of the run's processes has prepared it; None if the run is complete.

    Raises:
        UserError: it does not, or the machine lacks the devices or the data.
    """
    check_machine(config)
    run = Run(config["run_dir"])
    patience = time.monotonic() + FOLLOW
    # the first process owns a complete run, too, for as long as it takes to see that it is
    while not (complete := run.is_complete() and not config["force"]) and not run.owner():
        if time.monotonic() > patience:
            raise UserError(f"the first process of {run.directory} has not begun after {FOLLOW:.0f} seconds")
        time.sleep(0.1)
    return None if complete else run


def check_same_run(run: Run, before: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuse to resume in the directory of another run."""
    if not before:
        return
    if not isinstance(before.get("config"), dict):
        raise UserError(f"{run.record_path} has no config; choose another run_name, or force=true to start anew")
    if found := run_differences(before["config"], config):
        raise UserError(
            f"{run.directory} holds another run: {', '.join(found)}; choose another run_name, or force=true "
            "to set it aside"
        )


SUPERVISOR = "resnet_lab.runs.supervisor"


def command(run: Run, config: dict[str, Any]) -> list[str]:
    """The command line of the run's own process."""
    return python(SUPERVISOR, *arguments(run, config))


def arguments(run: Run, config: dict[str, Any]) -> list[str]:
    """Arguments that have the supervisor run this config, and not one that a later launch has put there."""
    return [str(run.directory), hash_of(config), *trust.arguments()]


def environment(config: dict[str, Any]) -> dict[str, str]:
    """The environment for that process: some settings must be there when it starts."""
    environ = os.environ | {"PYTHONSAFEPATH": "1"}
    runtime = config["runtime"]
    tunables = ["glibc.malloc.hugetlb=1"] if runtime["huge_pages"] else []
    if runtime["activation_checkpointing"]:
        # or the heap fragments between the inputs that are kept, and most of the saving is gone
        tunables.append("glibc.malloc.mmap_threshold=1048576")
    if tunables and sys.platform == "linux":
        environ.setdefault(TUNABLES, ":".join(tunables))
    return environ
