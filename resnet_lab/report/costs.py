"""Errors against what a net costs, for nets of several architectures that were trained alike."""

import itertools
import statistics
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from resnet_lab.report.results import Group, Study
from resnet_lab.report.style import colour, save
from resnet_lab.report.text import for_figure

MARKS = {True: "s", False: "o"}  # without and with shortcuts


def has_costs(study: Study) -> bool:
    """Whether nets of several functions are there to be compared."""
    return study.several_models and bool(counted(study))


def counted(study: Study) -> list[Group]:
    return [group for group in study.groups if all(map(group.values, needed(group)))]


def needed(group: Group) -> tuple[str, ...]:
    return "multiply_adds", "test_error", group.training_error


def draw_costs(study: Study, folder: Path) -> None:
    """Write multiply_adds.png and multiply_adds.svg: errors against multiply-adds, one pair of marks per net."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    marks, labels = [], []
    for group in counted(study):
        cost = group.values("multiply_adds")[0]
        for key, filled in ((group.training_error, False), ("test_error", True)):
            mean = statistics.fmean(group.values(key))
            face = colour(study, group) if filled else "white"
            look: dict[str, Any] = {"color": colour(study, group), "markerfacecolor": face, "markersize": 8}
            axes.plot(cost, mean, MARKS[group.plain], **look)
        marks.append((cost, mean))
        labels.append(
            axes.annotate(for_figure(group.title), (cost, mean), (7, 3), textcoords="offset points", fontsize=8)
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda cost, _: f"{cost / 1e6:g}M"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12)
    axes.set_xlabel("multiply-adds of an image")
    axes.set_ylabel("error (%)")
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    kinds = [("without shortcuts", MARKS[True], "0.4"), ("with shortcuts", MARKS[False], "0.4")]
    kinds += [("test error", ".", "0.4"), ("training error", ".", "white")]
    handles = [
        Line2D([], [], linestyle="", marker=mark, color="0.4", markerfacecolor=face, markersize=8, label=label)
        for label, mark, face in kinds
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    spread_labels(figure, axes, marks, labels)
    save(figure, folder / "multiply_adds")


def spread_labels(figure: Figure, axes: Axes, marks: list[tuple[float, float]], labels: list[Annotation]) -> None:
    """Put each label where it covers no mark and no other label, if there is such a place beside its mark."""
    figure.draw_without_rendering()
    left, right = figure.bbox.x0, axes.bbox.x1
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(marks)]
    for label in labels:
        for x, y in itertools.product((7, -7), (3, -11, 12, -20, 21, -29, 30)):
            label.set_position((x, y))
            label.set_horizontalalignment("left" if x > 0 else "right")
            box = label.get_window_extent()
            inside = left < box.x0 and box.x1 < right
            if inside and not box.count_overlaps(taken):
                break
        taken.append(box)
