"""Colours that stay the same between figures, and how figures are saved."""

import io
import math
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from resnet_lab.files import write_atomically
from resnet_lab.report.results import Group, Study

# Okabe and Ito (2008): told apart by people of every colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
KINDS = {"none": "#D55E00", "A": "#0072B2", "B": "#009E73", "C": "#CC79A7"}
# Where each depth lies on a sequential map, those of the paper's CIFAR nets far apart; others lie between them.
PLACES = {8: 0.0, 20: 0.2, 32: 0.4, 44: 0.6, 56: 0.8, 110: 0.9, 1202: 1.0}


def colour(study: Study, group: Group) -> str:
    """One colour per depth, from a sequential map; one per net where several architectures are compared."""
    if not study.several_models and group.depth:
        return depth_colour(group.depth)
    names = sorted({g.name for g in study.groups})
    return PALETTE[names.index(group.name) % len(PALETTE)]


def depth_colour(depth: int) -> str:
    place = float(np.interp(math.log(max(depth, 1)), [math.log(known) for known in PLACES], list(PLACES.values())))
    return to_hex(matplotlib.colormaps["viridis"](0.95 * place))


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
