"""Colours that stay the same between figures, and how figures are saved."""

import io
import math
from pathlib import Path

import matplotlib
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from resnet_lab.record import write_atomically
from resnet_lab.report.results import Group, Study

# Okabe and Ito (2008): told apart by people of every colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
KINDS = {"none": "#D55E00", "A": "#0072B2", "B": "#009E73", "C": "#CC79A7"}
# The depths of the paper's CIFAR nets are evenly spaced in colour; others lie between them.
DEPTHS = (8, 14, 20, 32, 44, 56, 110, 1202)


def colour(study: Study, group: Group) -> str:
    """One colour per depth, from a sequential map; one per net where several architectures are compared."""
    if not study.several_models and group.depth:
        return depth_colour(group.depth)
    names = sorted({g.name for g in study.groups})
    return PALETTE[names.index(group.name) % len(PALETTE)]


def depth_colour(depth: int) -> str:
    known = [math.log(d) for d in DEPTHS]
    at = min(max(math.log(depth), known[0]), known[-1])
    below = max(i for i in range(len(known) - 1) if known[i] <= at)
    place = below + (at - known[below]) / (known[below + 1] - known[below])
    return to_hex(matplotlib.colormaps["viridis"](0.9 * place / (len(known) - 1)))


def save(figure: Figure, path: Path) -> None:
    """As .png and .svg; no text in it is taken for a formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    # a fixed salt and no date: the same runs draw the same file
    with matplotlib.rc_context({"svg.hashsalt": "resnet_lab", "svg.fonttype": "none"}):
        for suffix, how in ((".png", {"dpi": 150}), (".svg", {"metadata": {"Date": None}})):
            content = io.BytesIO()
            figure.savefig(content, format=suffix[1:], **how)
            write_atomically(path.with_suffix(suffix), content.getvalue())
