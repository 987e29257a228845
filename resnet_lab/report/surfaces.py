"""The same heights as `contours` draws, as surfaces seen from above and aside."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from resnet_lab.report.contours import MOST_PANELS, Rows, levels_of, surface
from resnet_lab.report.text import for_figure

IN_A_ROW = 4
LARGEST = 300  # ten to the power of it is still a number
MOST_LINES = 41  # along each axis; what is finer is thinned out, as a picture shows no more


def draw_surfaces(panels: Sequence[tuple[str, Rows]], plot: dict[str, Any]) -> Figure:
    """One per title and rows, all with the same height axis, labelled with heights where it is logarithmic.

    The first panels only where there are more than MOST_PANELS.
    """
    x, y, z = (plot[axis][0] for axis in ("x", "y", "z"))
    surfaces = [surface(rows, x, y, z, plot["log"]) for _, rows in panels[:MOST_PANELS]]
    levels = levels_of([heights for _, _, heights in surfaces])
    wide, high = min(len(surfaces), IN_A_ROW), math.ceil(len(surfaces) / IN_A_ROW)
    figure = Figure(figsize=(3.6 * wide + 0.4, 3.4 * high + 0.5), layout="constrained")
    for number, ((title, _), (xs, ys, heights)) in enumerate(zip(panels, surfaces, strict=False), 1):
        axes: Any = figure.add_subplot(high, wide, number, projection="3d", computed_zorder=False)
        grid = np.meshgrid(xs, ys)
        fill = {"cmap": "viridis", "vmin": levels[0], "vmax": levels[-1]}
        mesh = {"rcount": MOST_LINES, "ccount": MOST_LINES, "linewidth": 0.2, "edgecolor": "#33333355"}
        axes.plot_surface(*grid, np.ma.filled(heights, np.nan), **fill, **mesh)
        axes.set_title(for_figure(title), fontsize=9)
        axes.set_zlim(levels[0], levels[-1])
        axes.set_xlabel(for_figure(x.replace("_", " ")))
        axes.set_ylabel(for_figure(y.replace("_", " ")))
        axes.set_zlabel(for_figure(z.replace("_", " ")))
        axes.zaxis.set_major_formatter(FuncFormatter(lambda height, _: told(height, plot["log"])))
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=5)
        axes.set_box_aspect(None, zoom=0.8)  # or the label of the height is cut off
    return figure


def told(height: float, log: bool) -> str:
    if not log:
        return f"{height:.3g}"
    return f"{10**height:.3g}" if abs(height) < LARGEST else f"1e{height:.0f}"
