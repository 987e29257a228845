"""Every analysis in a figure of its own, drawn as its plot says, and its rows in a CSV. One drawer for all."""

import csv
import io
import itertools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from resnet_lab.files import write_atomically
from resnet_lab.report.contours import MOST_PANELS, Rows, draw_contours
from resnet_lab.report.figure import MOST_NAMES
from resnet_lab.report.results import Group, Result, Study
from resnet_lab.report.style import colour, coloured_by, panel, save
from resnet_lab.report.style import columns as fitting
from resnet_lab.report.surfaces import draw_surfaces
from resnet_lab.report.text import for_csv, for_figure
from resnet_lab.runs.identity import hash_of
from resnet_lab.runs.rows import Analysis

Points = dict[Any, float]  # y by x
At = str | int  # initialization, an iteration, or last
MOST_FIGURES = 24
MOST_TOGETHER = 8  # nets in one panel
MOST_ACROSS = 8  # panels
DASHED = (0, (4, 2))
OTHERWISE = ((0, (1, 1)), (0, (6, 1, 1, 1)), (0, (8, 3)), (0, (1, 4)), (0, (6, 1, 1, 1, 1, 1)))


class Shown(NamedTuple):
    """The content of one figure: an analysis with the same settings, of all runs that have it."""

    name: str  # of its files
    told: str
    plot: dict[str, Any]
    of: list[tuple[Group, Result, Analysis]]

    @property
    def groups(self) -> list[Group]:
        return [group for group, _ in itertools.groupby(group for group, _, _ in self.of)]

    @property
    def times(self) -> list[At]:
        return sorted({found.settings["at"] for _, _, found in self.of}, key=iteration)

    def points(self, group: Group, at: At, x: str, y: str) -> list[Points]:
        """One set of points per run of the net, in the order of the rows."""
        mine = [found for its, _, found in self.of if its is group and found.settings["at"] == at]
        return [{row[x]: row[y] for row in found.rows} for found in mine]

    def first(self) -> list[tuple[str, Rows]]:
        """Title of a panel, and the rows of its first run, for each net and time of its weights."""
        found: dict[tuple[str, At], tuple[str, Rows]] = {}
        for group, result, analysis in self.of:
            at = analysis.settings["at"]
            title = f"{group.title}, seed {result.seed}, {when(at)}"
            found.setdefault((group.name, at), (title, analysis.rows))
        return list(found.values())


def iteration(at: At) -> float:
    """Something to sort by."""
    return at if isinstance(at, int) else {"initialization": 0, "last": math.inf}[at]


def when(at: At) -> str:
    if isinstance(at, int):
        return f"after {at} iteration{'s' * (at > 1)}"
    return {"initialization": "at initialization", "last": "trained"}[at]


def shown(study: Study) -> list[Shown]:
    """The figures, one per analysis and settings."""
    found: dict[tuple[str, str], list[tuple[Group, Result, Analysis]]] = {}
    for group in study.groups:
        for result in group.results:
            for analysis in result.analyses:
                settings = {key: value for key, value in analysis.settings.items() if key != "at"}
                # a plot that differs is of another version of the analysis
                key = json.dumps([settings, analysis.plot], sort_keys=True)
                found.setdefault((analysis.name, key), []).append((group, result, analysis))
    names = [name for name, _ in found]
    figures = []
    for (name, key), of in sorted(found.items())[:MOST_FIGURES]:
        told = f"{name}-{hash_of(key)}" if names.count(name) > 1 else name
        figures.append(Shown(f"analysis-{told}", told, of[0][2].plot, of))
    return figures


def draw_analysis(study: Study, what: Shown, folder: Path) -> None:
    """Write its .png, .svg and .csv."""
    if has_contours(what):
        figure = draw_contours(what.first(), what.plot)
    else:
        figure = draw_crowd(study, what) if is_crowd(study, what) else draw_panels(study, what)
    figure.suptitle(caption(what), fontsize=9, color="0.35")
    save(figure, folder / what.name)
    write_atomically(folder / f"{what.name}.csv", rows_csv(what))


def draw_surface(what: Shown, folder: Path) -> None:
    """Write a second picture of what has contours: .png and .svg."""
    figure = draw_surfaces(what.first(), what.plot)
    figure.suptitle(caption(what), fontsize=9, color="0.35")
    save(figure, folder / f"{what.name}-surface")


def draw_panels(study: Study, what: Shown) -> Figure:
    """A row of panels per y, with a panel per time of the weights and per x; of one column, two are made."""
    columns = list(itertools.product(what.times, what.plot["x"]))
    cells = list(itertools.product(what.plot["y"], columns))
    across = len(columns) if len(columns) > 1 else min(len(cells), 2)
    down = -(-len(cells) // across)
    figure = Figure(figsize=(5.2 * across, 3.6 * down + 0.8), layout="constrained")
    grid = figure.subplots(down, across, sharey="row" if len(columns) > 1 else False, squeeze=False)
    for place, (y, (at, x)) in enumerate(cells):
        DRAWERS[what.plot["kind"]](study, what, grid.flat[place], at, x, y)
        decorate(grid.flat[place], what, "" if place >= across else when(at), x, y)
    for axes in grid.flat[len(cells) :]:
        axes.set_visible(False)
    handles = [
        Line2D([], [], label=for_figure(group.title), linewidth=2, **look(study, group, what.groups))
        for group in what.groups[:MOST_NAMES]
    ]
    ncols = fitting([str(line.get_label()) for line in handles], 5.2 * across)
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, frameon=False, fontsize=9)
    return figure


def is_crowd(study: Study, what: Shown) -> bool:
    """Whether there are more nets than can be told apart in one panel, and settings to divide them by."""
    return len(what.groups) > MOST_TOGETHER and 1 < len(panels_of(study, what)) <= MOST_ACROSS


def panels_of(study: Study, what: Shown) -> list[str]:
    return list(dict.fromkeys(panel(study, group) for group in what.groups))


def draw_crowd(study: Study, what: Shown) -> Figure:
    """A column of panels per setting that has panels of curves; a row per y, time of the weights and x."""
    titles = panels_of(study, what)
    rows = list(itertools.product(what.plot["y"], what.times, what.plot["x"]))
    figure = Figure(figsize=(3.2 * len(titles), 2.8 * len(rows) + 0.8), layout="constrained")
    grid = figure.subplots(len(rows), len(titles), sharey="row", squeeze=False)
    for (row, (y, at, x)), (column, title) in itertools.product(enumerate(rows), enumerate(titles)):
        here = what._replace(of=[found for found in what.of if panel(study, found[0]) == title])
        DRAWERS[what.plot["kind"]](study, here, grid[row][column], at, x, y)
        decorate(
            grid[row][column], what, "" if row else for_figure(title), x, "" if column else f"{y}, {when(at)}"
        )
        grid[row][column].title.set_fontsize(8.5)
    names = {coloured_by(study, group): colour(study, group) for group in what.groups}
    handles = [Line2D([], [], color=own, linewidth=2, label=for_figure(name)) for name, own in names.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def decorate(axes: Axes, what: Shown, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(for_figure(x.replace("_", " ")))
    axes.set_ylabel(for_figure(y.replace("_", " ")))
    if what.plot["log"]:
        axes.set_yscale("log", nonpositive="clip")
        # Matplotlib's own writes formulas
        axes.yaxis.set_major_formatter(LogFormatter())
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def draw_lines(study: Study, what: Shown, axes: Axes, at: At, x: str, y: str) -> None:
    """The mean over the runs of each net; thin lines are single runs."""
    for group in what.groups:
        runs = what.points(group, at, x, y)
        style = look(study, group, what.groups)
        for points in runs if len(runs) > 1 else []:
            axes.plot(*zip(*sorted(points.items()), strict=True), linewidth=0.5, alpha=0.6, **style)
        if mean := mean_of(runs, geometric=what.plot["log"]):
            axes.plot(*zip(*sorted(mean.items()), strict=True), linewidth=1.8, **style)


def draw_bars(study: Study, what: Shown, axes: Axes, at: At, x: str, y: str) -> None:
    """A bar per net and value of x, as high as the mean over the runs; dots are single runs."""
    groups = what.groups
    values = list(dict.fromkeys(v for group in groups for points in what.points(group, at, x, y) for v in points))
    width = 0.8 / len(groups)
    for number, group in enumerate(groups):
        runs = what.points(group, at, x, y)
        places = {value: place + (number - (len(groups) - 1) / 2) * width for place, value in enumerate(values)}
        mean = mean_of(runs, geometric=what.plot["log"])
        fill: dict[str, Any] = {
            "color": colour(study, group),
            "hatch": "//" if group.plain else "",
            "edgecolor": "white",
        }
        axes.bar([places[value] for value in mean], list(mean.values()), width, **fill)
        for points in runs if len(runs) > 1 else []:
            axes.plot([places[value] for value in points], list(points.values()), ".", color="0.2", markersize=3)
    axes.set_xticks(range(len(values)), [for_figure(value) for value in values])


DRAWERS: dict[str, Callable[..., None]] = {"line": draw_lines, "bars": draw_bars}


def mean_of(runs: list[Points], geometric: bool) -> Points:
    """Over the runs, at each x that all of them have; on a log axis the geometric mean, of what is above 0."""
    common = [x for x in runs[0] if all(x in points for points in runs)] if runs else []
    if not geometric:
        return {x: statistics.fmean(points[x] for points in runs) for x in common}
    positive = [x for x in common if all(points[x] > 0 for points in runs)]
    return {x: statistics.geometric_mean(points[x] for points in runs) for x in positive}


def look(study: Study, group: Group, among: Sequence[Group]) -> dict[str, Any]:
    """Plain nets are dashed, as a depth has the same colour in all nets; further nets of one colour, otherwise."""
    own = colour(study, group)
    alike = [other for other in among if other.plain == group.plain and colour(study, other) == own]
    styles = [DASHED if group.plain else "-", *OTHERWISE]
    return {"color": own, "linestyle": styles[alike.index(group) % len(styles)]}


def has_contours(what: Shown) -> bool:
    return bool(what.plot["kind"] == "contour")


def caption(what: Shown) -> str:
    if has_contours(what):
        shown_of_all = f"{min(len(what.first()), MOST_PANELS)} of {len(what.first())} panels"
        left_out = f"; {shown_of_all}, all in the CSV" if len(what.first()) > MOST_PANELS else ""
        return f"{for_figure(what.told)}; the first seed of each net{left_out}"
    x, y = what.plot["x"][0], what.plot["y"][0]
    counts = sorted({len(what.points(group, at, x, y)) for group in what.groups for at in what.times})
    seeds = " to ".join(dict.fromkeys((str(counts[0]), str(counts[-1]))))
    means = "geometric means" if what.plot["log"] else "means"
    single = f"; {means} over seeds; thin lines or dots: single seeds" if counts[-1] > 1 else ""
    return f"{for_figure(what.told)}; n = {seeds}{single}"


def rows_csv(what: Shown) -> str:
    """All rows, each with its net, its run and its seed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = list(what.of[0][2].rows[0])
    writer.writerow(for_csv(name) for name in ["net", "run", "seed", "at", *columns])
    for group, result, found in what.of:
        head = [group.name, result.directory.parent.name, result.seed, found.settings["at"]]
        for row in found.rows:
            writer.writerow(for_csv(cell) for cell in [*head, *(row.get(name, "") for name in columns)])
    return text.getvalue()
