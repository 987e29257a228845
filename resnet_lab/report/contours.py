"""Contours of a height over a plane: one panel per net, with the same levels in all."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from resnet_lab.report.text import for_figure

Rows = list[dict[str, Any]]
Heights = npt.NDArray[np.float64]
MOST_PANELS = 12
IN_A_ROW = 4
LEVELS = 13
LARGEST = 1e300  # differences of two such heights are still numbers


def draw_contours(panels: Sequence[tuple[str, Rows]], plot: dict[str, Any]) -> Figure:
    """Titles and rows, which are a grid; on a log scale levels are the same factor apart, without what is not
    above 0. The first panels only where there are more than MOST_PANELS."""
    x, y, z = (plot[axis][0] for axis in ("x", "y", "z"))
    surfaces = [surface(rows, x, y, z, plot["log"]) for _, rows in panels[:MOST_PANELS]]
    levels = levels_of([heights for _, _, heights in surfaces])
    wide, high = min(len(surfaces), IN_A_ROW), math.ceil(len(surfaces) / IN_A_ROW)
    figure = Figure(figsize=(3.4 * wide + 1.2, 3.2 * high + 0.6), layout="constrained")
    grid = figure.subplots(high, wide, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(surfaces) :]:
        axes.set_visible(False)
    for axes, (title, _), (xs, ys, heights) in zip(grid.flat, panels, surfaces, strict=False):
        filled = axes.contourf(xs, ys, heights, levels, cmap="viridis")
        axes.set_title(for_figure(title), fontsize=9)
        axes.set_xlabel(for_figure(x.replace("_", " ")))
        axes.set_ylabel(for_figure(y.replace("_", " ")))
    bar = figure.colorbar(filled, ax=grid, label=for_figure(z.replace("_", " ")))
    bar.set_ticks(levels[::2], labels=[f"{10**level if plot['log'] else level:.3g}" for level in levels[::2]])
    return figure


def surface(rows: Rows, x: str, y: str, z: str, log: bool) -> tuple[list[float], list[float], Heights]:
    """The values of x and of y, and the heights over them (y, x), or their logarithms to base 10; what is none is
    masked."""
    xs, ys = (sorted({row[column] for row in rows}) for column in (x, y))
    at = {(row[x], row[y]): float(row[z]) for row in rows}
    heights = np.array([[at[place, other] for place in xs] for other in ys])
    with np.errstate(divide="ignore", invalid="ignore"):
        told = np.ma.masked_invalid(np.log10(heights) if log else heights)
    return xs, ys, np.ma.masked_outside(told, -LARGEST, LARGEST)


def levels_of(surfaces: Sequence[Heights]) -> list[float]:
    """Evenly spaced from the lowest to the highest of all."""
    every = np.concatenate([np.ma.compressed(heights) for heights in surfaces])
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 0.0)
    flat = high - low <= 1e-9 * max(abs(low), abs(high))
    levels: list[float] = np.linspace(low - (abs(low) or 1.0) if flat else low, high, LEVELS).tolist()
    return levels
