"""`resnet-lab-export`: the weights of a run or of a file, in another format."""

from pathlib import Path
from typing import Any

from resnet_lab.checks import UserError
from resnet_lab.config.command_line import run_command
from resnet_lab.runs.directory import Run


def export(config: dict[str, Any]) -> str:
    """Write the file that the config asks for, and return a message about it.

    Raises:
        UserError: not one of run and weights is given, or what they lead to cannot be read or written.
    """
    check_source(config)
    status = None if config["run"] is None else status_of(file_of("run", config["run"]))
    from resnet_lab.evaluation.stored import open_run, open_weights  # torch: not needed to refuse the above
    from resnet_lab.weights.files import check_output, export_weights

    format, output, padding = config["format"], file_of("output", config["output"]), config["padding"]
    check_output(output, format)
    if status:
        subject = open_run(file_of("run", config["run"]))
    else:
        subject = open_weights(file_of("weights", config["weights"]), config["model"], config["data"], padding)
    export_weights(subject.net, output, format, subject.data.shape, padding)
    note = f"the run is {status}; {subject.note}" if status else subject.note
    return f"{note}\n{output} has them as {format}"


def check_source(config: dict[str, Any]) -> None:
    """Refuse weights from two places or none, and blocks that do not go with them."""
    if (config["run"] is None) == (config["weights"] is None):
        raise UserError("run=FOLDER or weights=FILE must be given, one of them alone")
    blocks = {name: config.get(name) for name in ("model", "data")}
    if config["run"] is not None:
        if given := [name for name, block in blocks.items() if block is not None]:
            raise UserError(f"{given[0]} goes with weights=FILE; a run has its own")
    elif missing := [name for name, block in blocks.items() if block is None]:
        raise UserError(f"{missing[0]} must be given with weights=FILE, the one that the file is for")


def status_of(directory: Path) -> str:
    """The status of a run that is not under way and has not failed.

    Raises:
        UserError: it is another.
    """
    status = Run(directory).status()
    if status not in ("completed", "interrupted"):
        raise UserError(f"run must be the folder of a completed or interrupted run; {directory}: {status}")
    return status


def file_of(key: str, value: Any) -> Path:
    if not isinstance(value, str) or not value:
        raise UserError(f"{key} must be a path, got {value!r}")
    return Path(value).expanduser()


def main() -> None:
    run_command(lambda config: print(export(config)), "export")


if __name__ == "__main__":
    main()
