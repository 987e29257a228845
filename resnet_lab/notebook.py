"""Runs in Python: `resnet_lab.load` and `resnet_lab.runs`."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from resnet_lab.checks import UserError
from resnet_lab.report.results import Result, read_run
from resnet_lab.runs.directory import Run, damaged, end_of
from resnet_lab.runs.find import find_runs, run_at
from resnet_lab.runs.jobs import trains

if TYPE_CHECKING:
    from torch import nn

    from resnet_lab.data import ImageData

COUNTS = ("step", "epoch")  # columns of a curve that are integers
NO_FACTS = ("config", "status", "error", "traceback")  # of a record, which a row has in another form or not at all


class Finished(NamedTuple):
    """A finished run.

    `net` takes normalized float32 images (N, C, H, W) to logits (N, num_classes), and is in evaluation mode;
    `data.batches("test")` gives such images. `config` is the frozen config, `record` what record.json says, and
    `curves` has one dict per evaluation, with errors in percent.
    """

    net: "nn.Module"
    data: "ImageData"
    config: dict[str, Any]
    record: dict[str, Any]
    curves: list[dict[str, float]]


def load(path: str | Path) -> Finished:
    """A finished run from its folder, with the weights of its last iteration, on the CPU.

    The images are read when batches are first asked for; nothing is downloaded. Where net or data come from a
    package of your own, `from resnet_lab.trust import admit` and call `admit(["my_nets"])` first.

    Raises:
        UserError: the path holds no run, or one that is not finished, has trained nothing, or is damaged.
    """
    from resnet_lab.evaluation.stored import config_in, open_run  # torch, which a table does without

    run = run_at(Path(path))
    record, status = run.record(), run.status()
    if status != "completed":
        raise UserError(f"{run.directory} is not finished, but {status}; the command that began it resumes it")
    config = config_in(run, record)
    if not trains(config):
        raise UserError(f"{run.directory} has trained nothing: its job is {config['job']!r}")
    subject = open_run(run.checkpoint_path)
    if subject.iteration != end_of(record):
        raise UserError(f"{run.directory} is damaged: it is finished, and has {subject.note}")
    return Finished(subject.net.eval(), subject.data, config, record, curves(run))


def runs(path: str | Path = "outputs") -> list[dict[str, Any]]:
    """One flat dict per run at and under the path: directory, status, reason, the config's values by dotted names
    (`model.depth`) and the record's facts, errors in percent among them. Planned runs are there as missing.

    Raises:
        UserError: there is no such path.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise UserError(f"{folder} does not exist; give a folder with runs in it, as output_root of resnet-lab")
    found = find_runs(folder.resolve())
    for file, reason in found.left_out.items():
        warnings.warn(f"{file} is left out: {reason}", stacklevel=2)
    return [row(read_run(directory)) for directory in sorted(found.directories)]


def row(result: Result) -> dict[str, Any]:
    facts = {key: value for key, value in result.record.items() if key not in NO_FACTS}
    flat = {name: value for name, value in flattened(facts) if isinstance(value, str | int | float | None)}
    head = {"directory": str(result.directory), "status": result.status, "reason": result.reason}
    return head | dict(flattened(result.config)) | flat


def flattened(block: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in block.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def curves(run: Run) -> list[dict[str, float]]:
    try:
        return [
            {name: int(value) if name in COUNTS else float(value) for name, value in measured.items()}
            for measured in run.metrics()
        ]
    except ValueError as error:
        raise damaged(run.metrics_path, error) from error
