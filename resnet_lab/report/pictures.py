"""The pictures of a report: their names, captions and how to draw them. Empty ones are left out."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from resnet_lab.report.against import DEPTH, called, draw_against, numbers
from resnet_lab.report.analyses import draw_analysis, draw_surface, has_contours, shown
from resnet_lab.report.costs import draw_costs, has_costs
from resnet_lab.report.figure import draw
from resnet_lab.report.results import Study
from resnet_lab.report.style import panels


class Picture(NamedTuple):
    name: str  # of its files, without .png and .svg
    told: str
    draw: Callable[[Path], None]  # into a folder


def pictures(study: Study) -> list[Picture]:
    """The curves first, where there is one."""
    found = [Picture("curves", "error curves", partial(draw, study))] if panels(study) else []
    for key, name in numbers(study).items():
        against = "depth" if key == DEPTH else called(key, study)
        found.append(Picture(name, f"final errors against {against}", partial(into, study, key, name)))
    if has_costs(study):
        found.append(Picture("multiply_adds", "errors against multiply-adds", partial(draw_costs, study)))
    for what in shown(study):
        found.append(Picture(what.name, what.told, partial(draw_analysis, study, what)))
        if has_contours(what):
            told = f"{what.told}, as a surface"
            found.append(Picture(f"{what.name}-surface", told, partial(draw_surface, what)))
    return found


def into(study: Study, key: str, name: str, folder: Path) -> None:
    draw_against(study, key, folder / name)
