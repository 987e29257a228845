"""Final errors against a number that was varied: the depth, or whatever else a sweep went over."""

import statistics
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from resnet_lab.report.figure import caption
from resnet_lab.report.results import Group, Study
from resnet_lab.report.style import KINDS, PALETTE, columns, kind, save
from resnet_lab.report.text import for_figure
from resnet_lab.runs.identity import sanitize
from resnet_lab.runs.swept import joined, said, text, title, word
from resnet_lab.runs.validity import is_number

PANELS = {"train_error": "training error", "test_error": "test error"}
DEPTH = "model.depth"
MOST_NUMBERS = 4  # that have a picture
MOST_TICKS = 8
WIDE = 5  # times as large as the smallest: from there on an axis is logarithmic
STYLES = ("-", "--", ":", "-.")

Chain = tuple[str, str, list[Group]]  # net, other settings, groups in order


def numbers(study: Study) -> dict[str, str]:
    """The settings that have a picture, each with the name of its file."""
    keys = [*([] if study.several_models else [DEPTH]), *study.swept]
    found = [key for key in keys if any(len(groups) > 1 for _, _, groups in chains(study, key))][:MOST_NUMBERS]
    return {key: sanitize(word(key, found).replace(" ", "_").replace(".", "_")) for key in found}


def chains(study: Study, key: str) -> list[Chain]:
    """The groups with errors that differ in this number alone, by the number."""
    found: dict[tuple[str, str, str], list[Group]] = {}
    for group in study.groups:
        if group.values("train_error") and is_number(group.settings.get(key)):
            net = kind(study, group) if key == DEPTH else title(group.config)
            others = said(group.config, [other for other in study.swept if other != key])
            several = group.results[0].experiment if len(study.experiments) > 1 else ""
            found.setdefault((several, net, others), []).append(group)
    return [
        (joined(where, net), others, sorted(groups, key=lambda group: float(group.settings[key])))
        for (where, net, others), groups in found.items()
    ]


def called(key: str, study: Study) -> str:
    return "layers" if key == DEPTH else word(key, study.swept)


def draw_against(study: Study, key: str, path: Path) -> None:
    """Write the picture as .png and .svg: a mark for each run, a line through the means of each net."""
    found = chains(study, key)
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    looks = looks_of(found)
    for axes, (error, name) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        for net, others, groups in found:
            shown = error if error == "test_error" else groups[0].training_error
            plot(axes, groups, key, shown, *looks[net, others])
        scale(axes, sorted({group.settings[key] for _, _, groups in found for group in groups}), key)
        axes.set_ylim(0, 1.06 * max(1.0, axes.dataLim.y1))
        axes.set_title(f"final {name}")
        axes.set_xlabel(for_figure(called(key, study)))
        axes.set_ylabel("error (%)")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    lines = [line(joined(*names), *look) for names, look in looks.items()] + marks(study)
    ncols = columns([str(line.get_label()) for line in lines], 9)
    figure.legend(handles=lines, loc="outside lower center", ncols=ncols, frameon=False, fontsize=9)
    figure.suptitle(caption(study).partition("; lines")[0], fontsize=9, color="0.35")
    save(figure, path)


def line(name: str, colour: str, style: Any) -> Line2D:
    return Line2D([], [], color=colour, linestyle=style, label=for_figure(name))


def looks_of(found: list[Chain]) -> dict[tuple[str, str], tuple[str, str]]:
    """Colour and line style of each chain: colours for nets, styles for what else differs."""
    nets = list(dict.fromkeys(net for net, _, _ in found))
    own = {net: KINDS.get(groups[0].shortcut, "") for net, _, groups in found}
    distinct = len(set(own.values())) == len(nets) and "" not in own.values()
    colours = own if distinct else dict(zip(nets, cycle(PALETTE), strict=False))
    others = dict(zip(dict.fromkeys(others for _, others, _ in found), cycle(STYLES), strict=False))
    return {(net, other): (colours[net], others[other]) for net, other, _ in found}


def plot(axes: Axes, groups: list[Group], key: str, error: str, colour: str, style: str) -> None:
    """Each run as a mark, a cross where it never left guessing; a line through the means of those that did."""
    means = [
        (group.settings[key], statistics.fmean(group.trained(error))) for group in groups if group.trained(error)
    ]
    axes.plot([x for x, _ in means], [y for _, y in means], color=colour, linestyle=style, linewidth=1.6)
    for group in groups:
        for result in (result for result in group.completed if error in result.record):
            mark = {"marker": "o", "alpha": 0.55} if result.started else {"marker": "x"}
            axes.plot(group.settings[key], result.record[error], color=colour, linestyle="", markersize=6, **mark)


def scale(axes: Axes, values: list[float], key: str) -> None:
    """A logarithmic axis where the numbers are far apart, with room for a zero; the numbers as ticks."""
    positive = [value for value in values if value > 0]
    wide = key == DEPTH or (positive and max(positive) >= WIDE * min(positive)) or (0 in values and positive)
    if wide and min(values) > 0:
        axes.set_xscale("log")
    elif wide and min(values) == 0:
        axes.set_xscale("symlog", linthresh=min(positive), linscale=0.5)
    if len(values) <= MOST_TICKS:
        axes.set_xticks(values, [text(key, value) for value in values])
        axes.xaxis.set_minor_locator(NullLocator())


def marks(study: Study) -> list[Line2D]:
    found = [Line2D([], [], color="0.4", linestyle="", marker="o", alpha=0.55, label="one seed")]
    if any(group.not_started for group in study.groups):
        found.append(Line2D([], [], color="0.4", linestyle="", marker="x", label="did not start to train"))
    return found
