"""Final error against depth: where plain nets turn and residual nets do not."""

import itertools
import statistics
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from resnet_lab.report.figure import caption, panel
from resnet_lab.report.results import Group, Study
from resnet_lab.report.style import KINDS, PALETTE, save
from resnet_lab.report.text import for_figure

PANELS = {"train_error": "training error", "test_error": "test error"}


def has_depths(study: Study) -> bool:
    """Whether one kind of net was trained at two depths or more."""
    return not study.several_models and any(len(members) > 1 for _, members in chains(study))


def chains(study: Study) -> list[tuple[str, list[Group]]]:
    """The groups of each panel that have a completed run and a depth, shallowest first."""
    usable = [group for group in study.groups if group.completed and group.depth]
    usable.sort(key=lambda group: (not group.plain, group.shortcut, group.depth))
    return [(title, list(members)) for title, members in itertools.groupby(usable, lambda g: panel(study, g))]


def draw_by_depth(study: Study, folder: Path) -> None:
    """Write depth.png and depth.svg."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        for number, (_, members) in enumerate(chains(study)):
            plot(axes, members, key, kind_colour(members[0], number))
        depths = sorted({group.depth for _, members in chains(study) for group in members})
        axes.set_xscale("log")
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_ylim(bottom=0)
        axes.set_title(f"final {title}")
        axes.set_xlabel("layers")
        axes.set_ylabel("error (%)")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=legend(study), loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    figure.suptitle(caption(study).partition("; lines")[0], fontsize=9, color="0.35")
    save(figure, folder / "depth")


def plot(axes: Axes, members: list[Group], key: str, colour: str) -> None:
    """Each run as a mark, a cross where it never left guessing; a line through the means of those that did."""
    means = [(group.depth, statistics.fmean(group.trained(key))) for group in members if group.trained(key)]
    axes.plot(*zip(*means, strict=True), color=colour, linewidth=1.6)
    for group in members:
        for result in group.completed:
            look = {"marker": "o", "alpha": 0.55} if result.started else {"marker": "x"}
            axes.plot(group.depth, result.record[key], color=colour, linestyle="", markersize=6, **look)


def kind_colour(group: Group, number: int) -> str:
    return KINDS.get(group.shortcut, PALETTE[number % len(PALETTE)])


def legend(study: Study) -> list[Line2D]:
    found = [
        Line2D([], [], color=kind_colour(members[0], number), label=for_figure(title))
        for number, (title, members) in enumerate(chains(study))
    ]
    found.append(Line2D([], [], color="0.4", linestyle="", marker="o", alpha=0.55, label="one seed"))
    if any(group.not_started for group in study.groups):
        found.append(Line2D([], [], color="0.4", linestyle="", marker="x", label="did not start to train"))
    return found
