"""`resnet-lab-report`: from run directories to figures, tables and a verdict. Imports no torch.

The verdict is about training errors at the last iteration, one value per seed. Effects come first: the gap between
a deeper net and the shallowest of its kind, with a two-sided 95 % interval (Welch). The words follow from these:

- *degradation*: the gap is above zero; with several depths the p-values are adjusted by Holm's method;
- *no degradation*: the whole interval is below `verdict.margin`, which the experiment's config names beforehand;
- *cured by shortcuts*: at every depth at which the plain nets degrade, the residual gap is below the margin, and
  the interaction, plain gap less residual gap, is above zero, both with their whole intervals;
- *undecided*: anything else, one seed included.

Runs that never left guessing are counted and named apart, and are no part of a gap; a net with such runs is never
called cured, and a shallow net with such runs shows no degradation of a deeper one.

How often the rule errs, in percent of 400 simulated studies (tests/test_verdict.py; normal errors, as margin one
standard deviation):

| seeds | depths compared | degradation called where there is none | cured called where it is worse by the margin |
| --- | --- | --- | --- |
| 3 | 1 | 0.25 | 1.75 |
| 3 | 3 | 1.5 | 0.25 |
| 5 | 1 | 2.5 | 1.75 |
| 5 | 3 | 2.0 | 0.0 |
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from resnet_lab import __version__
from resnet_lab.checks import UserError
from resnet_lab.endings import one_sentence
from resnet_lab.files import no_space, write_atomically
from resnet_lab.report.committed import NAME, read_committed, runs_jsonl
from resnet_lab.report.page import page
from resnet_lab.report.pictures import pictures
from resnet_lab.report.results import NotYet, Study, read_results
from resnet_lab.report.tables import markdown, results_csv
from resnet_lab.runs.signals import EXIT_INTERRUPTED
from resnet_lab.text import LONGEST_MESSAGE, one_line

BOOK = Path("outputs", "book")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="resnet-lab-report", description="Write a figure, tables and a verdict from the runs under the paths."
    )
    parser.add_argument("--version", action="version", version=f"resnet-lab {__version__}")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="an experiment's folder, or any runs")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where to write; PATH, if there is one alone"
    )
    parser.add_argument(
        "--book",
        action="store_true",
        help="make pages of a folder of experiments, its texts and committed records; into outputs/book",
    )
    options = parser.parse_args(arguments)
    for path in options.paths:
        if not path.exists():
            parser.error(f"PATH {path} does not exist")
    if options.book and len(options.paths) > 1:
        parser.error("--book is made of one PATH, the folder experiments of a checkout")
    if not options.book and options.output is None and (len(options.paths) > 1 or not options.paths[0].is_dir()):
        parser.error("--output is needed where PATH is not one folder")
    with one_sentence("resnet-lab-report"):
        if options.book:
            from resnet_lab.report.book import write_book

            print(one_line(write_book(options.paths[0], options.output or BOOK), LONGEST_MESSAGE))
            return
        try:
            print(one_line(write_report(options.paths, options.output or options.paths[0]), LONGEST_MESSAGE))
        except NotYet as error:
            print(one_line(f"resnet-lab-report: {error}", LONGEST_MESSAGE), file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)


def write_report(paths: Sequence[Path], output: Path) -> Path:
    """Write the figures, results.csv, runs.jsonl, report.md and report.html; return the last's path.

    Raises:
        UserError: there are no runs in the paths, or the folder cannot be written.
    """
    study = read_results(paths, read_committed)
    try:
        write_all(study, output)
    except OSError as error:
        otherwise = f"{output} cannot be written ({error}); choose another --output"
        raise UserError(no_space(error, output) or otherwise) from error
    return output / "report.html"


def write_all(study: Study, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    for picture in pictures(study):
        picture.draw(output)
    write_atomically(output / "results.csv", results_csv(study))
    write_atomically(output / NAME, runs_jsonl(study))
    write_atomically(output / "report.md", markdown(study))
    write_atomically(output / "report.html", page(study, output))
