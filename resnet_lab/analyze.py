"""`resnet-lab-analyze`: look inside stored nets or a fresh one; rows are stored beside the record."""

import csv
import functools
import hashlib
import inspect
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from resnet_lab.checks import UserError
from resnet_lab.config import tasks
from resnet_lab.config.command_line import run_hydra
from resnet_lab.config.compose import CONF, resolved
from resnet_lab.endings import message_of
from resnet_lab.evaluation.chosen import Stored, chosen, fit_to_evaluate, say
from resnet_lab.files import unusable, write_atomically
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of, hash_of_run, sanitize
from resnet_lab.runs.noted import entries, note_analysis
from resnet_lab.runs.processes import CORES
from resnet_lab.runs.quiet import silence
from resnet_lab.runs.rows import AT, FOLDER, NAME, check_plot, check_rows, is_at, is_of, is_there
from resnet_lab.runs.side_by_side import side_by_side
from resnet_lab.runs.signals import EXIT_INTERRUPTED, PARENT, end, end_with_parent, handle_signals
from resnet_lab.runs.unfinished import unfinished

if TYPE_CHECKING:
    from torch import nn

    from resnet_lab.evaluation.stored import Subject


AGAIN = "the same command resumes"


class Asked(NamedTuple):
    """An analysis as the config asks for it; `at` says of which weights of a run."""

    name: str
    block: dict[str, Any]
    at: list[str | int]
    plot: dict[str, Any]

    def settings(self, at: str | int) -> dict[str, Any]:
        """All that the rows depend on, beside the net and its images."""
        return {key: value for key, value in self.block.items() if key not in ("at", "plot")} | {"at": at}

    def file(self, at: str | int) -> str:
        return f"{self.name}-{hash_of(self.settings(at))}.csv"


def _task(cfg: DictConfig) -> None:
    config = resolved(cfg, "analyze")
    sys.exit(perform(config, HydraConfig.get().runtime.choices.get("analysis")))


def perform(config: dict[str, Any], name: str | None = None) -> int:
    """Analyze what the config names, and return the exit code.

    Raises:
        UserError: settings that do not fit, or a net that cannot be analyzed.
    """
    asked = asked_for(config.get("analysis"), name)
    fresh = bool(config.get("model") or config.get("data"))
    if (config["runs"] is None) != fresh:
        raise UserError("runs=PATH, or model=... and data=... for a fresh net, must be given, one of them alone")
    if fresh:
        return analyze_fresh(asked, config)
    for key in ("seed", "output"):
        if config[key] is not None:
            raise UserError(
                f"{key} goes with model and data; runs have their own, and keep their rows beside them"
            )
    found, whole = chosen(config["runs"])
    check_places(found)
    complete = fit_to_evaluate(found, config["runs"])
    outcomes = each_of(
        complete, functools.partial(analyze_run, asked=asked, force=config["force"]), config["jobs"]
    )
    return 0 if all(outcomes) and whole and len(complete) == len(found) else 1


def check_places(found: Sequence[Stored]) -> None:
    """Refuse a checkpoint that is not a run's last: rows say which weights they are of by `at` alone."""
    for run, checkpoint in found:
        if checkpoint != run.checkpoint_path:
            raise UserError(
                f"runs={checkpoint}: an analysis is of a run, runs={run.directory}; of the weights that "
                f"analyze_at kept it is by analysis.at=[ITERATION]"
            )


def each_of(complete: list[Stored], analyzed: Callable[[Stored], bool], jobs: int | None) -> list[bool]:
    """Analyze several runs at once, each on its share of the cores; return whether each succeeded."""
    processes = min(jobs or CORES, len(complete))
    if processes < 2:
        return [analyzed(stored) for stored in complete]
    import torch  # before the processes are forked, so that they share it

    silence()
    threads = max(1, torch.get_num_threads() // processes)
    return side_by_side(analyzed, complete, processes, functools.partial(torch.set_num_threads, threads))


def asked_for(block: Any, name: str | None) -> Asked:
    """What a block `analysis` asks for.

    Raises:
        UserError: there is none, or its `at` or `plot` is not allowed.
    """
    if not isinstance(block, dict) or not isinstance(block.get("_target_"), str):
        known = sorted(path.stem for path in Path(CONF, "analysis").glob("*.yaml"))
        raise UserError(f"analysis=NAME must be given; there are {', '.join(known)}")
    at = block.get("at", "last")
    asked = [AT[0] if place == 0 else place for place in (at if isinstance(at, list) else [at])]
    if not asked or not all(map(is_at, asked)):
        allowed = f"one of {', '.join(AT)}, an iteration that analyze_at kept, or a list of them"
        raise UserError(f"analysis.at must be {allowed}; got {at!r}")
    own_name = sanitize(name or block["_target_"].rpartition(".")[2])
    return Asked(own_name, block, list(dict.fromkeys(asked)), check_plot(block.get("plot")))


def analyze_run(stored: Stored, asked: Asked, force: bool) -> bool:
    """Analyze the weights of a run that are not analyzed yet; say what was done, and whether all went well."""
    trained = stored.run.record()["config"].get("iterations") != 0
    well = True
    for at in asked.at if trained else AT[:1]:
        path = stored.run.directory / FOLDER / asked.file(at)
        try:
            if not force and is_done(stored.run, asked, at):
                say(f"{path}: there already; force=true recomputes it")
                continue
            write(stored, asked, at)
            say(f"{path}: written")
        except Exception as error:  # the others are to be analyzed
            say(f"{stored.run.directory}: {message_of('resnet-lab-analyze', error)}")
            well = False
    return well


def is_done(run: Run, asked: Asked, at: str | int) -> bool:
    """Whether the rows of these settings and of the stored weights are there; a changed plot is noted."""
    run_hash = hash_of_run(run.record()["config"])
    for entry in entries(run.directory / NAME):
        same = entry.get("file") == asked.file(at) and entry.get("settings") == asked.settings(at)
        if same and is_of(run, run_hash, entry) and is_there(run, entry):
            if entry.get("plot") != asked.plot:
                note_analysis(run.directory / NAME, entry | {"plot": asked.plot})
            return True
    return False


def write(stored: Stored, asked: Asked, at: str | int) -> None:
    """Make the rows, then put them beside the record, then note of which weights they are."""
    function = opened(asked)
    from resnet_lab.evaluation.stored import open_run

    last = at == "last"
    subject = open_run(weights_at(stored, at), AT[0] if at == AT[0] else "last")
    tasks.check_classifies(subject.config, "analyses are")
    wanted = last and "initial" in inspect.signature(function).parameters
    initial = open_run(stored.run.directory, "initialization").net if wanted else None
    of = {
        "settings": asked.settings(at),
        "run": hash_of_run(subject.config),
        "iteration": subject.iteration,
        "weights": subject.digest,
    }
    folder = stored.run.directory / FOLDER
    path = folder / asked.file(at)
    try:
        if folder.is_symlink():
            raise UserError(f"{folder} is a symbolic link; remove it")
        folder.mkdir(exist_ok=True)
        with unfinished(path.with_name(f".{path.stem}.unfinished"), of) as (before, keep):
            text = as_csv(rows_of(function, subject, asked, initial, before, keep))
            write_atomically(path, text)
    except OSError as error:
        raise unusable(folder, error) from error
    entry = of | {
        "analysis": asked.name,
        "plot": asked.plot,
        "file": asked.file(at),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    note_analysis(stored.run.directory / NAME, entry)


def weights_at(stored: Stored, at: str | int) -> Path:
    """Where they are; the run's directory, which makes them, at initialization.

    Raises:
        UserError: they are of an iteration whose weights were not kept.
    """
    if not isinstance(at, int):
        return stored.checkpoint if at == "last" else stored.run.directory
    path = stored.run.kept_path(at)
    if not path.exists():
        raise UserError(f"it has no weights of iteration {at}; train it again with analyze_at=[{at}] force=true")
    return path


def analyze_fresh(asked: Asked, config: dict[str, Any]) -> int:
    """Analyze a net with its first weights; the rows are shown, or written to `output`.

    Raises:
        UserError: model or data is missing, or the output exists or cannot be written.
    """
    if not config.get("model") or not config.get("data"):
        raise UserError("a fresh net needs model=... and data=...")
    path = Path(config["output"]).expanduser() if config["output"] else None
    if path and path.exists() and not config["force"]:
        raise UserError(f"output={path} is there already; force=true replaces it")
    function = opened(asked)
    from resnet_lab.evaluation.stored import open_fresh

    text = as_csv(rows_of(function, open_fresh(config["model"], config["data"], config["seed"] or 0), asked))
    if not path:
        print(text, end="")
        return 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"output={path} cannot be written ({error}); give another file") from error
    say(f"{path}: written")
    return 0


def opened(asked: Asked) -> Callable[..., Any]:
    """The function with its settings."""
    from resnet_lab.config.build import analysis_of  # torch, which is not needed for --help

    silence()
    return analysis_of(asked.block)


def rows_of(
    function: Callable[..., Any],
    subject: "Subject",
    asked: Asked,
    initial: "nn.Module | None" = None,
    before: Sequence[dict[str, Any]] = (),
    keep: Callable[..., list[dict[str, Any]]] = list,
) -> list[dict[str, Any]]:
    """Call the function on the net and its data, and check its rows.

    A function with an argument `initial` is given the net with the weights that its run began with, one with an
    argument `done` the rows that it yielded before it was interrupted.

    Raises:
        UserError: a setting is out of its range, or what it returns is not rows.
    """
    more = {"initial": initial, "done": before}
    taken = inspect.signature(function).parameters
    try:
        rows = function(net=subject.net, data=subject.data, **{k: v for k, v in more.items() if k in taken})
        rows = keep(rows) if "done" in taken else rows
        check_rows(rows, asked.plot)
    except ValueError as error:
        raise UserError(f"analysis {asked.name}: {error}") from error
    return rows


def as_csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def interrupted(number: int, frame: FrameType | None) -> None:
    os.write(sys.stderr.fileno(), f"resnet-lab-analyze: {signal.Signals(number).name}; {AGAIN}\n".encode())
    end(EXIT_INTERRUPTED)


def main() -> None:
    handle_signals(interrupted)
    if PARENT in os.environ:  # a sweep's, which analyzes at its end
        end_with_parent(signal.SIGTERM, int(os.environ[PARENT]))
    run_hydra(_task, "analyze")


if __name__ == "__main__":
    main()
