"""`resnet-lab-runs`: list runs, and delete them. Imports no torch."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from resnet_lab import __version__, trust
from resnet_lab.checks import UserError
from resnet_lab.endings import one_sentence
from resnet_lab.runs.find import run_at
from resnet_lab.runs.listing import SET_ASIDE, STATUSES, Listed, list_runs
from resnet_lab.runs.removal import remove
from resnet_lab.text import LONGEST_MESSAGE, columns, duration, one_line, size

COMMAND = "resnet-lab-runs"
HEAD = ("run", "status", "train %", "test %", "age", "size", "folder")
NUMBERS = (2, 3, 4, 5)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.yes and not options.remove:
        parser.error("--yes goes with --remove")
    with one_sentence(COMMAND):
        trust.admit(options.trust_package)
        if options.command:
            print(again(options.command))
            return
        runs = chosen(options.paths or [Path("outputs")], options.status, options.sort)
        if options.json:
            print(json.dumps([run.facts() for run in runs], indent=2))
            return
        if not runs:
            print("there are no such runs")
            return
        show(runs)
        if options.remove:
            remove_all(runs, options.yes)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=COMMAND,
        description="List the runs under the paths, those set aside by force=true among them, or remove them.",
        epilog="To be rid of what failed: resnet-lab-runs outputs/mine --status failed --remove",
    )
    parser.add_argument("--version", action="version", version=f"resnet-lab {__version__}")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="folders with runs in them; outputs")
    parser.add_argument(
        "--status", type=statuses, default=STATUSES, metavar="WORD,...", help=f"only these: {', '.join(STATUSES)}"
    )
    parser.add_argument(
        "--sort", choices=("newest", "experiment"), default="newest", help="newest first, or by name"
    )
    does = parser.add_mutually_exclusive_group()
    does.add_argument("--json", action="store_true", help="for programs")
    does.add_argument(
        "--remove", action="store_true", help="delete what is listed, after asking, and take it out of the plan"
    )
    does.add_argument(
        "--command",
        type=Path,
        metavar="RUN",
        help="print a shell line that makes this run again, once it is checked",
    )
    trust.add_flag(parser, "with --command: a package that the run names")
    parser.add_argument("--yes", action="store_true", help="with --remove: do not ask")
    return parser


def again(path: Path) -> str:
    from resnet_lab.config.again import command_line  # Hydra: not needed for a list

    run = run_at(path)
    record = run.record()
    if not isinstance(record.get("config"), dict):
        raise UserError(f"{run.record_path} has no config")
    return command_line(record)


def statuses(text: str) -> list[str]:
    words = text.split(",")
    if unknown := [word for word in words if word not in STATUSES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not a status; there are {', '.join(STATUSES)}")
    return words


def chosen(paths: Sequence[Path], words: Sequence[str], sort: str) -> list[Listed]:
    """The runs of these statuses, in the order asked for."""
    runs = [run for run in list_runs(paths) if run.status in words]
    if sort == "newest":
        return sorted(runs, key=lambda run: -run.time)
    return sorted(runs, key=lambda run: (run.experiment, run.status == SET_ASIDE, run.name))


def show(runs: Sequence[Listed]) -> None:
    print(*columns([HEAD, *map(cells, runs)], right=NUMBERS), sep="\n")
    for run in runs:
        if run.reason and run.status in ("failed", "unreadable"):
            print(one_line(f"{place(run.directory)} {run.status}: {run.reason}", LONGEST_MESSAGE))
    print(f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}, {size(sum(run.bytes for run in runs))}")


def cells(run: Listed) -> list[str]:
    errors = [f"{run.errors[key]:.2f}" if key in run.errors else "" for key in ("train_error", "test_error")]
    age = duration(time.time() - run.time) if run.time else ""
    return [run.name, run.status, *errors, age, size(run.bytes), place(run.directory)]


def place(directory: Path) -> str:
    """The directory, relative to the current folder if it lies in it."""
    here = Path.cwd()
    return one_line(directory.relative_to(here) if directory.is_relative_to(here) else directory, LONGEST_MESSAGE)


def remove_all(runs: Sequence[Listed], yes: bool) -> None:
    """Delete the runs, after asking.

    Raises:
        UserError: nobody said yes, or some could not be deleted.
    """
    for run in runs:
        what = size(run.bytes) if run.status != "missing" else "only planned"
        print(f"to be removed: {place(run.directory)} ({what})")
    if not yes and not asked(f"Remove these {len(runs)}?"):
        raise UserError("nothing was removed; add --yes to remove what is listed")
    kept = 0
    for run in runs:
        try:
            remove(run.directory)
        except UserError as error:
            print(one_line(f"kept: {error}", LONGEST_MESSAGE), file=sys.stderr)
            kept += 1
    print(f"removed {len(runs) - kept} of {len(runs)}")
    if kept:
        raise UserError(f"{kept} of {len(runs)} were kept")


def asked(question: str) -> bool:
    return sys.stdin.isatty() and input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


if __name__ == "__main__":
    main()
