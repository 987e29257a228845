"""`resnet-lab-export`: the weights of a run or of a file, in another format."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from resnet_lab.checks import UserError, check_choice, check_safe
from resnet_lab.config.command_line import run_command
from resnet_lab.config.compose import resolved
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of_run


class Source(NamedTuple):
    """A file of weights, the blocks of the config that it is for, and what the user should know of it."""

    path: Path
    model: dict[str, Any]
    data: dict[str, Any]
    note: str


def _task(cfg: DictConfig) -> None:
    try:
        check_safe()
        print(export(resolved(cfg, "export")))
    except (UserError, ValueError) as error:
        sys.exit(f"resnet-lab-export: {error}")


def export(config: dict[str, Any]) -> str:
    """Write the file that the config asks for, and return what to tell of it.

    Raises:
        UserError: not one of run and weights is given, or what they lead to cannot be read or written.
        ValueError: a choice is unknown.
    """
    source = source_of(config)
    from resnet_lab.config.build import build  # torch: not needed for --help, nor to refuse the above
    from resnet_lab.weights.files import FORMS, check_output, export_weights, load_weights

    form, output = config["format"], file_of("output", config["output"])
    check_choice("format", form, FORMS)
    check_output(output, form)
    images = build("data", source.data)
    net = build("model", source.model, in_channels=images.in_channels, num_classes=images.num_classes)
    said = load_weights(net, source.path, config["padding"])
    shape = (images.in_channels, images.image_size, images.image_size)
    export_weights(net, output, form, shape, config["padding"])
    return f"{source.note}{said}\n{output} has them as {form}"


def source_of(config: dict[str, Any]) -> Source:
    if (config["run"] is None) == (config["weights"] is None):
        raise UserError("run=FOLDER or weights=FILE must be given, one of them alone")
    blocks = {name: config[name] for name in ("model", "data")}
    if config["run"] is not None:
        if given := [name for name, block in blocks.items() if block is not None]:
            raise UserError(f"{given[0]} goes with weights=FILE; a run has its own")
        return source_of_run(Run(file_of("run", config["run"])))
    if missing := [name for name, block in blocks.items() if block is None]:
        raise UserError(f"{missing[0]} must be given with weights=FILE, the one that the file is for")
    return Source(file_of("weights", config["weights"]), **blocks, note="")


def source_of_run(run: Run) -> Source:
    """The newest stored weights of a run that is not under way and has not failed.

    Raises:
        UserError: there is no such run, or its weights are damaged or another run's.
    """
    from resnet_lab.training.checkpoint import newest_whole, run_of

    config, status = run.record().get("config"), run.status()
    if status not in ("completed", "interrupted") or not isinstance(config, dict):
        raise UserError(f"run must be the folder of a completed or interrupted run; {run.directory}: {status}")
    found = newest_whole(run.checkpoint_path)
    if found is None:
        raise UserError(f"{run.checkpoint_path} is missing or damaged, and so is the one before it")
    path, checkpoint = found
    if run_of(checkpoint) != hash_of_run(config):
        raise UserError(f"{path} is not of the config in {run.record_path}")
    note = f"the run is {status}; weights of iteration {checkpoint['global_step']} of {config['iterations']}\n"
    return Source(path, config["model"], config["data"], note)


def file_of(key: str, value: Any) -> Path:
    if not isinstance(value, str) or not value:
        raise UserError(f"{key} must be a path, got {value!r}")
    return Path(value).expanduser()


def main() -> None:
    run_command(_task, "export")


if __name__ == "__main__":
    main()
