"""Stored weights that a command works on: those of runs at and under paths, and checkpoints. No torch."""

from pathlib import Path
from typing import Any, NamedTuple

from resnet_lab.checks import UserError
from resnet_lab.runs.directory import Run
from resnet_lab.runs.find import Found, find_runs
from resnet_lab.runs.jobs import job_of
from resnet_lab.runs.processes import rank
from resnet_lab.runs.validity import check_facts
from resnet_lab.text import LONGEST_MESSAGE, one_line


class Stored(NamedTuple):
    """A run and one of its checkpoints."""

    run: Run
    checkpoint: Path


def chosen(runs: Any) -> tuple[list[Stored], bool]:
    """The runs at and under the paths, with the checkpoint that a path names or the last; and whether that is all.

    Planned runs that are missing, and plans that cannot be read, are reported.

    Raises:
        UserError: there are none.
    """
    paths = [Path(path).expanduser() for path in as_list(runs)]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise UserError(f"runs: {missing[0]} does not exist")
    found: dict[tuple[Path, Path], Stored] = {}
    left_out: dict[Path, str] = {}
    for path in (path.resolve() for path in paths):
        under = Found({path.parents[1]}, {}) if path.is_file() else find_runs(path)
        left_out |= under.left_out
        for directory in sorted(under.directories):
            run = Run(directory)
            if job := other_job(run):
                say(f"{directory}: {job}, left out")
            elif run.record_path.exists():
                checkpoint = path if path.is_file() else run.checkpoint_path
                found[directory, checkpoint] = Stored(run, checkpoint)
            else:
                left_out[directory] = "missing, nothing to evaluate"
    for what, reason in left_out.items():
        say(f"{what}: {reason}")
    if not found:
        raise UserError(f"runs: none found in {', '.join(map(str, paths))}")
    return list(found.values()), not left_out


def other_job(run: Run) -> str:
    """The job of a run that trained nothing; empty if it trained, or if the record does not say."""
    try:
        config = run.record()["config"]
        job = job_of(config)
    except (OSError, LookupError, TypeError, AttributeError, UserError):
        return ""
    return str(config["job"]) if job and not job.trains and not run.has_checkpoint() else ""


def as_list(runs: Any) -> list[str]:
    paths = runs if isinstance(runs, list) else [runs]
    if not paths or not all(isinstance(path, str) for path in paths):
        raise UserError(f"runs must be a path or a list of paths (in quotes, if it is a number), got {runs!r}")
    return paths


def checked_record(run: Run) -> dict[str, Any]:
    """Read the run's record.

    Raises:
        UserError: it is damaged, or not written by a run.
    """
    try:
        record = run.record()
        check_facts(record)
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"record.json cannot be used ({type(error).__name__}: {error})") from error
    return record


def fit_to_evaluate(found: list[Stored], runs: Any) -> list[Stored]:
    """Keep those whose run is complete or whose checkpoint was asked for by name; print which are left out."""
    named = {Path(path).expanduser().resolve() for path in as_list(runs)}
    return [stored for stored in found if is_complete_or_told(stored, named)]


def is_complete_or_told(stored: Stored, named: set[Path]) -> bool:
    try:
        checked_record(stored.run)
        status = stored.run.status()
    except UserError as error:
        say(f"{stored.run.directory}: {error}, left out")
        return False
    if status == "completed" or stored.checkpoint in named:
        return True
    say(f"{stored.run.directory}: {status}, left out")
    return False


def say(line: str) -> None:
    """Print the line once, however many processes there are."""
    if rank() == 0:
        print(one_line(line, LONGEST_MESSAGE))
