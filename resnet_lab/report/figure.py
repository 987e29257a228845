"""The curves as the paper draws them in Figure 6: plain nets on the left, residual ones on the right."""

from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resnet_lab.report.results import Group, Study

STYLES: dict[str, Literal["-", "--", ":"]] = {"A": "-", "B": "--", "C": ":"}
COLOURS = ("#2a78c2", "#d9822b", "#3a923a", "#c03d3e", "#8a63b4", "#7f6259", "#d684bd", "#4d4d4d")


def draw(study: Study, folder: Path) -> None:
    """Write curves.png and curves.svg."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, title, groups in ((left, "plain", plain(study)), (right, "residual", residual(study))):
        for group in groups:
            plot(axes, group, colour(study, group))
        decorate(axes, title, groups, study)
    left.set_ylabel("error (%)")
    right.tick_params(labelleft=True)
    left.set_ylim(0, top(study))
    figure.savefig(folder / "curves.png", dpi=150)
    # a fixed salt and no date: the same runs draw the same file
    with matplotlib.rc_context({"svg.hashsalt": "resnet_lab", "svg.fonttype": "none"}):
        figure.savefig(folder / "curves.svg", metadata={"Date": None})


def plain(study: Study) -> list[Group]:
    return [group for group in study.groups if group.plain]


def residual(study: Study) -> list[Group]:
    return [group for group in study.groups if not group.plain]


def colour(study: Study, group: Group) -> str:
    """A colour a depth, the same in both panels."""
    depths = sorted({g.depth or g.name for g in study.groups}, key=str)
    return COLOURS[depths.index(group.depth or group.name) % len(COLOURS)]


def plot(axes: Axes, group: Group, colour: str) -> None:
    for key, width in (("train_error", 0.8), ("val_error", 2.2)):
        steps, means, deviations = group.mean_curve(key)
        axes.plot(steps, means, STYLES.get(group.shortcut, "-"), color=colour, linewidth=width)
        if any(deviations):
            low = [m - d for m, d in zip(means, deviations, strict=True)]
            high = [m + d for m, d in zip(means, deviations, strict=True)]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def decorate(axes: Axes, title: str, groups: list[Group], study: Study) -> None:
    axes.set_title(title)
    axes.set_xlabel("iteration")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    nets = [
        Line2D([], [], color=colour(study, g), linestyle=STYLES.get(g.shortcut, "-"), label=g.name) for g in groups
    ]
    kinds = [
        Line2D([], [], color="0.4", linewidth=0.8, label="training"),
        Line2D([], [], color="0.4", linewidth=2.2, label="validation"),
    ]
    axes.legend(handles=nets + kinds, edgecolor="none", framealpha=0.8, fontsize=9)


def top(study: Study) -> float:
    """The highest error once a tenth of the training is over: the first ones would flatten all the rest."""
    highest = 1.0
    for group in study.groups:
        for key in ("train_error", "val_error"):
            steps, means, _ = group.mean_curve(key)
            highest = max([highest, *(m for s, m in zip(steps, means, strict=True) if s > steps[-1] / 10)])
    return min(100.0, 1.08 * highest)
