"""The curves as the paper draws them in Figure 6: plain nets on the left, residual ones on the right."""

import io
import statistics
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from resnet_lab.record import write_atomically
from resnet_lab.report.results import Group, Study
from resnet_lab.report.text import for_figure

STYLES: dict[str, Literal["-", "--", ":"]] = {"A": "-", "B": "--", "C": ":"}
MORE = ("#17a2a8", "#b5b031", "#8fb8e6", "#e6b87f", "#7ec27e", "#e28a8b")
COLOURS = ("#2a78c2", "#d9822b", "#3a923a", "#c03d3e", "#8a63b4", "#7f6259", "#d684bd", "#4d4d4d", *MORE)
MARKS = {True: "s", False: "o"}  # without and with shortcuts


def draw(study: Study, folder: Path) -> None:
    """Write curves.png and curves.svg."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, title, groups in zip((left, right), titles(study), (plain(study), residual(study)), strict=True):
        for group in groups:
            plot(axes, group, colour(study, group))
        decorate(axes, title, groups, study)
    left.set_ylabel("error (%)")
    right.tick_params(labelleft=True)
    left.set_ylim(0, top(study))
    save(figure, folder / "curves")
    if study.several_models:
        draw_costs(study, folder)


def draw_costs(study: Study, folder: Path) -> None:
    """Write multiply_adds.png and multiply_adds.svg: errors against multiply-adds, a pair of marks a net."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    nets = [group for group in study.groups if group.values("multiply_adds") and group.values("test_error")]
    marks, labels = [], []
    for group in nets:
        cost = group.values("multiply_adds")[0]
        for key, filled in (("train_error", False), ("test_error", True)):
            mean = statistics.fmean(group.values(key))
            face = colour(study, group) if filled else "white"
            look: dict[str, Any] = {"color": colour(study, group), "markerfacecolor": face, "markersize": 8}
            axes.plot(cost, mean, MARKS[group.plain], **look)
        marks.append((cost, mean))
        labels.append(
            axes.annotate(for_figure(group.name), (cost, mean), (7, 3), textcoords="offset points", fontsize=8)
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
    axes.legend(handles=handles, edgecolor="none", framealpha=0.8, fontsize=9)
    part(figure, axes, marks, labels)
    save(figure, folder / "multiply_adds")


def part(figure: Figure, axes: Axes, marks: list[tuple[float, float]], labels: list[Annotation]) -> None:
    """Put each label where it covers no mark and no other label, if there is such a place beside its mark."""
    figure.draw_without_rendering()
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in axes.transData.transform(marks)]
    for label in labels:
        for x, y in ((7, 3), (7, -11), (-7, 3), (-7, -11), (7, 12)):
            label.set_position((x, y))
            label.set_horizontalalignment("left" if x > 0 else "right")
            box = label.get_window_extent()
            if not box.count_overlaps(taken):
                break
        taken.append(box)


def save(figure: Figure, path: Path) -> None:
    """As .png and .svg."""
    # a fixed salt and no date: the same runs draw the same file
    with matplotlib.rc_context({"svg.hashsalt": "resnet_lab", "svg.fonttype": "none"}):
        for suffix, how in ((".png", {"dpi": 150}), (".svg", {"metadata": {"Date": None}})):
            content = io.BytesIO()
            figure.savefig(content, format=suffix[1:], **how)
            write_atomically(path.with_suffix(suffix), content.getvalue())


def titles(study: Study) -> tuple[str, str]:
    return ("without shortcuts", "with shortcuts") if study.several_models else ("plain", "residual")


def plain(study: Study) -> list[Group]:
    return [group for group in study.groups if group.plain]


def residual(study: Study) -> list[Group]:
    return [group for group in study.groups if not group.plain]


def colour(study: Study, group: Group) -> str:
    """A colour a depth, the same in both panels; a colour a net where there are more kinds of them."""

    def key(group: Group) -> str | int:
        return group.name if study.several_models else group.depth or group.name

    keys = sorted({key(g) for g in study.groups}, key=str)
    return COLOURS[keys.index(key(group)) % len(COLOURS)]


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
        Line2D([], [], color=colour(study, g), linestyle=STYLES.get(g.shortcut, "-"), label=for_figure(g.name))
        for g in groups
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
