"""The curves as the paper draws them in Figure 6: a panel for the plain nets, one for each kind of shortcut.

A setting that was swept has colours of its own, or panels of its own.
"""

import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resnet_lab.report.results import Group, Study
from resnet_lab.report.style import colour, coloured_by, columns, has_curve, panel, panels, save
from resnet_lab.report.tasks import words_of
from resnet_lab.report.text import for_figure
from resnet_lab.runs.validity import MOST_ITERATIONS

# As in the paper, the training error is dashed and the other error bold.
LINES: dict[str, dict[str, Any]] = {
    "train_error": {"linestyle": (0, (4, 2)), "linewidth": 1.2},
    "val_error": {"linestyle": "-", "linewidth": 2.2},
}
# With fewer seeds than this a band would be misleading: each seed is drawn.
BAND_FROM = 10
MOST_NAMES = 24  # in a legend
# Curves that are below this part of the axis after this part of the training are repeated in an enlarged inset.
FLOOR, EARLY = 0.15, 0.2


def draw(study: Study, folder: Path) -> None:
    """Write curves.png and curves.svg."""
    titles = panels(study)
    rows = -(-len(titles) // 3) if len(titles) != 4 else 2
    across = -(-len(titles) // rows)
    names = [names_in(study, title) for title in titles] if study.several_models else []
    height = 4.1 + 0.2 * max(map(len, names), default=0)
    figure = Figure(figsize=(5 * across, 0.8 + height * rows), layout="constrained")
    grid = figure.subplots(rows, across, sharex=True, sharey=True, squeeze=False)
    for axes, title in zip(grid.flat, titles, strict=False):
        groups = [group for group in study.groups if panel(study, group) == title]
        for group in groups:
            plot(axes, group, colour(study, group))
        decorate(axes, title, study)
        axes.tick_params(labelleft=True, labelbottom=True)
        enlarge(axes, groups, study)
    for axes, own in zip(grid.flat, names, strict=False):
        axes.legend(handles=own, loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False, fontsize=9)
    for axes in grid.flat[len(titles) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("error (%)")
    grid[0][0].set_ylim(0, top(study))
    grid[0][0].set_xlim(left=0)
    found = ([] if names else names_in(study)) + meanings(study)
    ncols = columns([str(line.get_label()) for line in found], 5 * across)
    figure.legend(handles=found, loc="outside lower center", ncols=ncols, frameon=False, fontsize=9)
    figure.suptitle(caption(study), fontsize=9, color="0.35")
    save(figure, folder / "curves")


def enlarge(axes: Axes, groups: list[Group], study: Study) -> None:
    """Where all curves of a panel soon lie at its floor, repeat them in an enlarged inset."""
    highest = max((highest_after(group, EARLY) for group in groups), default=0.0)
    ends = [result.curve.steps[-1] for group in groups for result in group.results if result.curve.steps]
    if not ends or highest > FLOOR * top(study):
        return
    inset = axes.inset_axes((0.3, 0.3, 0.67, 0.62))
    for group in groups:
        plot(inset, group, colour(study, group))
    inset.set_xlim(EARLY * max(ends), max(ends))
    inset.set_ylim(0, max(0.1, 1.5 * highest))  # single seeds lie above their mean
    inset.tick_params(labelsize=8)
    inset.grid(alpha=0.25)
    inset.set_title("enlarged", fontsize=9, color="0.35")
    inset.spines[["top", "right"]].set_visible(False)


def plot(axes: Axes, group: Group, colour: str) -> None:
    for key, line in LINES.items():
        steps, means, deviations = group.mean_curve(key)
        axes.plot(steps, means, color=colour, **line)
        if len(group.completed) >= BAND_FROM:
            low = [m - d for m, d in zip(means, deviations, strict=True)]
            high = [m + d for m, d in zip(means, deviations, strict=True)]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        elif len(group.completed) > 1:
            for result in group.completed:
                single = {**line, "linewidth": 0.5, "alpha": 0.7}
                axes.plot(result.curve.steps, getattr(result.curve, key), color=colour, **single)


def decorate(axes: Axes, title: str, study: Study) -> None:
    axes.set_title(for_figure(title))
    axes.set_xlabel("iteration")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for milestone in milestones(study):
        axes.axvline(milestone, color="0.6", linewidth=0.8, linestyle=":")


def milestones(study: Study) -> list[int]:
    """Where the learning rate falls, if it does so at the same iterations in all runs."""
    schedules = [result.config.get("schedule") for result in study.results if result.config]
    falling = [s if isinstance(s, dict) and is_multistep(s.get("_target_")) else {} for s in schedules]
    found = {json.dumps(schedule.get("milestones")) for schedule in falling}
    steps = json.loads(found.pop()) if len(found) == 1 else None
    return [step for step in steps if is_step(step)][:10] if isinstance(steps, list) else []


def is_multistep(target: object) -> bool:
    return target is None or str(target).rpartition(".")[2] in ("MultiStep", "MultiStepWarmup", "MultiStepLR")


def is_step(value: object) -> bool:
    return type(value) is int and 0 < value <= MOST_ITERATIONS


def names_in(study: Study, title: str | None = None) -> list[Line2D]:
    """Names of the colours, in one panel or in all of them."""
    found: dict[str, str] = {}
    for group in filter(has_curve, study.groups):
        if title in (None, panel(study, group)):
            found.setdefault(coloured_by(study, group), colour(study, group))
    shown = list(found.items())[:MOST_NAMES]
    return [Line2D([], [], color=colour, linewidth=2.2, label=for_figure(name)) for name, colour in shown]


def meanings(study: Study) -> list[Line2D]:
    """Handles of the legend that explain the kinds of lines."""
    told = words_of(study)
    words = {"train_error": told.training, "val_error": told.validation}
    kinds = [Line2D([], [], color="0.4", label=words[key], **line) for key, line in LINES.items()]
    drops = [Line2D([], [], color="0.6", linestyle=":", linewidth=0.8, label="learning rate falls")]
    return [*kinds, *(drops if milestones(study) else [])]


def caption(study: Study) -> str:
    """Caption: data, number of seeds, and the meaning of thin lines or bands."""
    known = [result.record["data"] for result in study.results if result.record.get("data")]
    data = sorted({for_figure(facts.get("name")) for facts in known})
    counts = sorted({len(group.completed) for group in study.groups if group.completed})
    seeds = " to ".join(dict.fromkeys((str(counts[0]), str(counts[-1])))) if counts else "0"
    words = [*data, f"n = {seeds}"]
    if counts and counts[-1] > 1:
        words += ["lines: means over seeds"]
        words += ["thin lines: single seeds"] if counts[0] < BAND_FROM else ["bands: one standard deviation"]
    return "; ".join(words)


def top(study: Study) -> float:
    """The highest error once a tenth of the training is over: the first ones would flatten all the rest."""
    highest = max((highest_after(group, 1 / 10) for group in study.groups), default=0.0)
    return min(100.0, 1.08 * max(1.0, highest))


def highest_after(group: Group, share: float) -> float:
    """The highest mean error once that share of the training is over."""
    highest = 0.0
    for key in LINES:
        steps, means, _ = group.mean_curve(key)
        highest = max([highest, *(m for s, m in zip(steps, means, strict=True) if s > steps[-1] * share)])
    return highest
