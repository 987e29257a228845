"""`resnet-lab-report`: from run directories to a figure, tables and a verdict. Imports no torch."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from resnet_lab.checks import UserError
from resnet_lab.record import write_atomically
from resnet_lab.report.figure import draw
from resnet_lab.report.page import page
from resnet_lab.report.results import read_results
from resnet_lab.report.tables import markdown, results_csv
from resnet_lab.text import LONGEST_MESSAGE, one_line


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="resnet-lab-report", description="Write a figure, tables and a verdict from the runs under the paths."
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="an experiment's folder, or any runs")
    parser.add_argument(
        "--output", type=Path, metavar="FOLDER", help="where to write; PATH, if there is one alone"
    )
    options = parser.parse_args(arguments)
    for path in options.paths:
        if not path.exists():
            parser.error(f"PATH {path} does not exist")
    if options.output is None and (len(options.paths) > 1 or not options.paths[0].is_dir()):
        parser.error("--output is needed where PATH is not one folder")
    try:
        print(one_line(write_report(options.paths, options.output or options.paths[0]), LONGEST_MESSAGE))
    except (OSError, UserError, ValueError) as error:
        sys.exit(one_line(f"resnet-lab-report: {error}", LONGEST_MESSAGE))


def write_report(paths: Sequence[Path], output: Path) -> Path:
    """Write curves.png, curves.svg, results.csv, report.md and report.html; return the last's path.

    Raises:
        ValueError: there are no runs in the paths.
    """
    study = read_results(paths)
    output.mkdir(parents=True, exist_ok=True)
    draw(study, output)
    write_atomically(output / "results.csv", results_csv(study))
    write_atomically(output / "report.md", markdown(study))
    write_atomically(output / "report.html", page(study, output))
    return output / "report.html"
