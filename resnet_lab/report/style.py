"""Panels, labels and consistent colours that tell the groups of a study apart in figures."""

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from resnet_lab.files import write_atomically
from resnet_lab.report.results import Group, Study, order
from resnet_lab.runs.swept import joined, said
from resnet_lab.runs.validity import is_number

# Okabe and Ito (2008): told apart by people of every colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
KINDS = {"none": "#D55E00", "A": "#0072B2", "B": "#009E73", "C": "#CC79A7"}
# The same net has the same colour in every study; none twice without shortcuts, none twice with them.
NETS = {
    "alexnet": "#000000",
    "googlenet": "#009E73",
    "inception": "#56B4E9",
    "inception_v4": "#CC79A7",
    "vgg": "#E69F00",
    "highway": "#000000",
    "inception_resnet_v2": "#CC79A7",
    "preact_resnet_cifar": "#E69F00",
    "resnet_imagenet": "#009E73",
}
# Where each depth lies on a sequential map, those of the paper's CIFAR nets far apart; others lie between them.
PLACES = {8: 0.0, 20: 0.2, 32: 0.4, 44: 0.6, 56: 0.8, 110: 0.9, 1202: 1.0}
MOST_OPTIONS = 5  # kinds of shortcut that have a panel each
MOST_PANELS = 6


def kind(study: Study, group: Group) -> str:
    """The kind of net, plain or residual, which figures show side by side."""
    if study.several_models:
        return "without shortcuts" if group.plain else "with shortcuts"
    if group.plain:
        return "plain"
    options = {g.shortcut for g in study.groups if not g.plain}
    return f"residual, option {group.shortcut}" if 1 < len(options) < MOST_OPTIONS else "residual"


def axes_of(study: Study) -> tuple[list[str], list[str]]:
    """Split the swept settings into those told apart by colour and those that get panels.

    The colour is the depth where there are several; else the setting with the most values. All are colours where
    the panels would be too many, or where nets of several functions have the colours.
    """
    values = {key: {str(group.settings.get(key)) for group in study.groups} for key in study.swept}
    keys = sorted(study.swept, key=lambda key: -len(values[key]))
    coloured, others = ([], keys) if several_depths(study) else (keys[:1], keys[1:])
    panels = {(kind(study, group), said(group.config, others)) for group in study.groups if group.config}
    return (study.swept, []) if study.several_models or len(panels) > MOST_PANELS else (coloured, others)


def several_depths(study: Study) -> bool:
    return len({group.depth for group in study.groups if group.config}) > 1


def panel(study: Study, group: Group) -> str:
    _, keys = axes_of(study)
    return joined(kind(study, group), said(group.config, keys) if group.config else "")


def panels(study: Study) -> list[str]:
    """The titles of the panels that have a curve to show, plain nets first."""
    drawn = (group for group in study.groups if has_curve(group))
    return list(dict.fromkeys(panel(study, group) for group in drawn))


def has_curve(group: Group) -> bool:
    return any(result.curve.steps for result in group.results)


def coloured_by(study: Study, group: Group) -> str:
    """The meaning of its colour in words, the same in all panels."""
    if study.several_models or not group.config:
        return group.title
    keys, _ = axes_of(study)
    layers = f"{group.depth} layers" if group.depth and (several_depths(study) or not keys) else ""
    return joined(layers, said(group.config, keys)) or group.title


def colour(study: Study, group: Group) -> str:
    """From a sequential map where it stands for a number, else from the palette."""
    if study.several_models:
        return net_colours(study)[group.name]
    keys, _ = axes_of(study)
    if not keys and group.depth:
        return depth_colour(group.depth)
    values = [g.settings.get(keys[0]) for g in study.groups if g.config] if len(keys) == 1 else []
    if group.config and values and all(map(is_number, values)):
        return place_colour(group.settings[keys[0]], values)
    names = list(dict.fromkeys(coloured_by(study, g) for g in study.groups))
    return PALETTE[names.index(coloured_by(study, group)) % len(PALETTE)]


def net_colours(study: Study) -> dict[str, str]:
    """The colour of each group: its net's own, or the next that its panel does not have yet."""
    found: dict[str, str] = {}
    taken: dict[str, list[str]] = {}
    for group in study.groups:
        own = NETS.get(group.model) or KINDS.get(group.shortcut)
        if own and own not in taken.setdefault(kind(study, group), []):
            found[group.name] = own
            taken[kind(study, group)].append(own)
    for group in (g for g in study.groups if g.name not in found):
        used = taken.setdefault(kind(study, group), [])
        free = [other for other in PALETTE if other not in used]
        found[group.name] = free[0] if free else PALETTE[len(used) % len(PALETTE)]
        used.append(found[group.name])
    return found


def depth_colour(depth: int) -> str:
    place = float(np.interp(math.log(max(depth, 1)), [math.log(known) for known in PLACES], list(PLACES.values())))
    return on_map(place)


def place_colour(value: float, among: Iterable[Any]) -> str:
    values = sorted(set(among), key=order)
    return on_map(0.1 + 0.8 * values.index(value) / max(1, len(values) - 1))


def on_map(place: float) -> str:
    return to_hex(matplotlib.colormaps["viridis"](0.95 * place))


def columns(labels: Iterable[str], width: float) -> int:
    """Number of legend columns that fit into a figure of that width in inches."""
    longest = max(map(len, labels), default=0)
    return max(1, min(6, int(width / (0.085 * longest + 0.6))))


def save(figure: Figure, path: Path) -> None:
    """Save as .png and .svg; no text is interpreted as a formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    # a fixed salt and no date: the same runs draw the same file
    with matplotlib.rc_context({"svg.hashsalt": "resnet_lab", "svg.fonttype": "none"}):
        for suffix, how in ((".png", {"dpi": 150}), (".svg", {"metadata": {"Date": None}})):
            content = io.BytesIO()
            figure.savefig(content, format=suffix[1:], **how)
            write_atomically(path.with_suffix(suffix), content.getvalue())
