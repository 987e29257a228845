"""The curves as the paper draws them in Figure 6: one panel for the plain nets, one for each kind of shortcut."""

import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from resnet_lab.report.results import Group, Study
from resnet_lab.report.style import colour, save
from resnet_lab.report.text import for_figure
from resnet_lab.report.validity import MOST_ITERATIONS

# As in the paper, the training error is dashed and the other error bold.
LINES: dict[str, dict[str, Any]] = {
    "train_error": {"linestyle": (0, (4, 2)), "linewidth": 1.2},
    "val_error": {"linestyle": "-", "linewidth": 2.2},
}
# With fewer seeds than this a band would be misleading: each seed is drawn.
BAND_FROM = 10
MOST_PANELS = 5
MOST_NAMES = 24  # in a legend


def draw(study: Study, folder: Path) -> None:
    """Write curves.png and curves.svg."""
    titles = panels(study)
    figure = Figure(figsize=(5 * len(titles), 4.9), layout="constrained")
    row = figure.subplots(1, len(titles), sharex=True, sharey=True, squeeze=False)[0]
    for axes, title in zip(row, titles, strict=True):
        for group in study.groups:
            if panel(study, group) == title:
                plot(axes, group, colour(study, group))
        decorate(axes, title, study)
        axes.tick_params(labelleft=True)
    row[0].set_ylabel("error (%)")
    row[0].set_ylim(0, top(study))
    row[0].set_xlim(left=0)
    figure.legend(handles=legend(study), loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    figure.suptitle(caption(study), fontsize=9, color="0.35")
    save(figure, folder / "curves")


def panels(study: Study) -> list[str]:
    """The titles of the panels, plain nets first."""
    return list(dict.fromkeys(panel(study, group) for group in study.groups))


def panel(study: Study, group: Group) -> str:
    if study.several_models:
        return "without shortcuts" if group.plain else "with shortcuts"
    if group.plain:
        return "plain"
    options = {g.shortcut for g in study.groups if not g.plain}
    return f"residual, option {group.shortcut}" if 1 < len(options) < MOST_PANELS else "residual"


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
    found = {json.dumps(s.get("milestones") if isinstance(s, dict) else None) for s in schedules}
    steps = json.loads(found.pop()) if len(found) == 1 else None
    return [step for step in steps if is_step(step)][:10] if isinstance(steps, list) else []


def is_step(value: object) -> bool:
    return type(value) is int and 0 < value <= MOST_ITERATIONS


def legend(study: Study) -> list[Line2D]:
    """Each net once, or each depth where it has the same colour in all panels; and what the lines mean."""
    names: dict[str, str] = {}
    for group in (g for g in study.groups if any(result.curve.steps for result in g.results)):
        name = f"{group.depth} layers" if group.depth and not study.several_models else group.name
        names.setdefault(name, colour(study, group))
    shown = list(names.items())[:MOST_NAMES]
    nets = [Line2D([], [], color=colour, linewidth=2.2, label=for_figure(name)) for name, colour in shown]
    words = {"train_error": "training", "val_error": "validation"}
    kinds = [Line2D([], [], color="0.4", label=words[key], **line) for key, line in LINES.items()]
    drops = [Line2D([], [], color="0.6", linestyle=":", linewidth=0.8, label="learning rate falls")]
    return [*nets, *kinds, *(drops if milestones(study) else [])]


def caption(study: Study) -> str:
    """Data, number of seeds, and what the thin lines or bands mean."""
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
    highest = 1.0
    for group in study.groups:
        for key in LINES:
            steps, means, _ = group.mean_curve(key)
            highest = max([highest, *(m for s, m in zip(steps, means, strict=True) if s > steps[-1] / 10)])
    return min(100.0, 1.08 * highest)
