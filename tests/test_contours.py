"""Heights over a plane: which rows are a grid, and what is drawn of them."""

from io import BytesIO
from typing import Any

import pytest

from resnet_lab.checks import UserError
from resnet_lab.report.contours import draw_contours, levels_of, surface
from resnet_lab.report.surfaces import draw_surfaces
from resnet_lab.runs.rows import check_plot, check_rows

PLOT = check_plot({"kind": "contour", "x": "a", "y": "b", "z": "height"})


def grid(height: Any = lambda a, b: 1.0 + a + 10 * b) -> list[dict[str, Any]]:
    return [{"a": a, "b": b, "height": height(a, b)} for b in range(2) for a in range(3)]


def test_a_surface_has_x_from_left_to_right_and_y_from_below() -> None:
    xs, ys, heights = surface(grid()[::-1], "a", "b", "height", log=False)
    assert (xs, ys, heights.tolist()) == ([0, 1, 2], [0, 1], [[1, 2, 3], [11, 12, 13]])
    levels = levels_of([heights])
    assert (levels[0], levels[-1]) == (1, 13)


def test_a_log_scale_leaves_out_what_has_no_logarithm() -> None:
    _, _, heights = surface(grid(lambda a, b: 10.0**a if b else -1.0), "a", "b", "height", log=True)
    assert heights.tolist() == [[None] * 3, [0, 1, 2]]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("height", [7.0, 0.0, -1.0, float("nan"), float("inf"), 1e308])
def test_a_flat_or_missing_surface_is_drawn_without_a_warning(height: float, log: bool) -> None:
    panels = [("flat", grid(lambda a, b: height)), ("other", grid())]
    for some in (panels, panels[:1], panels * 10):
        figure = draw_contours(some, PLOT | {"log": log})
        figure.savefig(BytesIO())
        shown = [axes.get_title() for axes in figure.axes if axes.get_visible() and axes.get_title()]
        assert shown == [title for title, _ in some][:12]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (grid()[:-1], "not a grid over plot.x and plot.y, with one row at each crossing"),
        (grid()[:-1] + grid()[:1], "not a grid"),
        (grid()[:3], "not a grid"),
        (grid(lambda a, b: "high"), "a value of plot.z is not a number"),
        ([row | {"a": float("nan")} for row in grid()], "a value of plot.x or plot.y is not a finite number"),
        ([row | {"b": "up"} for row in grid()], "a value of plot.y is not a number"),
        ([{"a": 0, "b": 0}], "plot.z: there is no column height"),
    ],
)
def test_rows_that_are_no_grid_are_refused(rows: list[dict[str, Any]], message: str) -> None:
    check_rows(grid(), PLOT)
    with pytest.raises(ValueError, match=message):
        check_rows(rows, PLOT)


def test_only_contours_have_a_height() -> None:
    with pytest.raises(UserError, match=r"analysis.plot.z is only for kind=contour, got 'c'"):
        check_plot({"x": "a", "y": "b", "z": "c"})
    with pytest.raises(
        UserError, match=r"analysis.plot.y must be one column where kind=contour, got \['b', 'c'\]"
    ):
        check_plot(PLOT | {"y": ["b", "c"]})


@pytest.mark.parametrize(("height", "log"), [(7.0, False), (-1.0, True), (1e308, True)])
def test_a_surface_of_any_height_is_drawn_without_a_warning(height: float, log: bool) -> None:
    panels = [("flat", grid(lambda a, b: height)), ("other", grid())]
    draw_surfaces(panels, PLOT | {"log": log}).savefig(BytesIO())
