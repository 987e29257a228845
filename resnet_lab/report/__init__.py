"""`resnet-lab-report`: from run directories to a figure, tables and a verdict. Imports no torch."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from resnet_lab.checks import UserError
from resnet_lab.report.figure import draw
from resnet_lab.report.page import page
from resnet_lab.report.results import read_results
from resnet_lab.report.tables import markdown, results_csv


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
        print(write_report(options.paths, options.output or options.paths[0]))
    except (OSError, UserError, ValueError) as error:
        sys.exit(f"resnet-lab-report: {error}")


def write_report(paths: Sequence[Path], output: Path) -> Path:
    """Write curves.png, curves.svg, results.csv, report.md and report.html; return the last's path.

    Raises:
        ValueError: there are no runs in the paths.
    """
    study = read_results(paths)
    output.mkdir(parents=True, exist_ok=True)
    draw(study, output)
    (output / "results.csv").write_text(results_csv(study))
    text = markdown(study)
    (output / "report.md").write_text(text)
    (output / "report.html").write_text(page(study, output))
    return output / "report.html"
