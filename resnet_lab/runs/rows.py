"""Rows of analyses, as stored in files beside a record, and the settings of their plots."""

import csv
import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

from resnet_lab.checks import UserError, hint
from resnet_lab.files import read_regular
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of_run, sanitize
from resnet_lab.runs.noted import entries
from resnet_lab.runs.sealed import digest_of
from resnet_lab.runs.validity import is_number

NAME = "analyses.json"
FOLDER = "analyses"
AT = ("initialization", "last")
PLOT: dict[str, Any] = {
    "kind": "line",
    "x": None,
    "y": None,
    "z": None,  # the height; contours only
    "log": False,
}  # with the defaults
KINDS = ("line", "bars", "contour")
# Limits on files that someone else may have made.
MOST_BYTES = 1 << 24
MOST_ROWS, MOST_COLUMNS, MOST_PANELS = 50_000, 50, 12


class Analysis(NamedTuple):
    """Measurements of one analysis on one run's weights."""

    name: str
    settings: dict[str, Any]  # with `at`, which says when the weights were taken
    plot: dict[str, Any]
    rows: list[dict[str, Any]]


def is_at(value: object) -> bool:
    """Whether it names weights of a run: the first, the last, or those of an iteration in between."""
    return (type(value) is int and value > 0) or value in AT


def check_plot(plot: Any) -> dict[str, Any]:
    """Complete the plot with the defaults; `x`, `y` and, for contours, `z` become lists.

    Raises:
        UserError: a setting is unknown, or its value is not allowed.
    """
    if not isinstance(plot, dict):
        raise UserError(f"analysis.plot must be a block with kind, x, y and log, got {plot!r}")
    for key in plot:
        if key not in PLOT:
            raise UserError(f"analysis.plot.{key} is not a setting here; {hint(key, PLOT, 'analysis.plot.')}")
    whole = PLOT | plot
    if whole["kind"] not in KINDS:
        raise UserError(f"analysis.plot.kind must be one of {', '.join(KINDS)}; got {whole['kind']!r}")
    if not isinstance(whole["log"], bool):
        raise UserError(f"analysis.plot.log must be true or false, got {whole['log']!r}")
    contours = whole["kind"] == "contour"
    if whole["z"] is not None and not contours:
        raise UserError(f"analysis.plot.z is only for kind=contour, got {whole['z']!r}")
    for axis in axes(whole):
        columns = whole[axis] if isinstance(whole[axis], list) else [whole[axis]]
        if not columns or not all(isinstance(column, str) and column for column in columns):
            raise UserError(f"analysis.plot.{axis} must be the name of a column, or a list; got {whole[axis]!r}")
        if contours and len(columns) > 1:
            raise UserError(f"analysis.plot.{axis} must be one column where kind=contour, got {columns}")
        whole[axis] = columns
    if len(whole["x"]) * len(whole["y"]) > MOST_PANELS:
        raise UserError(f"analysis.plot has more than {MOST_PANELS} pairs of x and y")
    return whole


def axes(plot: dict[str, Any]) -> tuple[str, ...]:
    return ("x", "y", "z") if plot["kind"] == "contour" else ("x", "y")


def check_rows(rows: Any, plot: dict[str, Any]) -> None:
    """Raise ValueError unless they are flat dicts with the same keys, those that the plot names among them."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("its rows are not a list of at least one dict")
    if any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError("its rows have different columns")
    if len(rows) > MOST_ROWS or len(rows[0]) > MOST_COLUMNS:
        raise ValueError(f"it has more than {MOST_ROWS} rows or {MOST_COLUMNS} columns")
    if not all(isinstance(value, int | float | str) for row in rows for value in row.values()):
        raise ValueError("a value of a row is neither a number nor text")
    for axis in axes(plot):
        for column in plot[axis]:
            if column not in rows[0]:
                raise ValueError(f"plot.{axis}: there is no column {column}; {hint(column, list(rows[0]))}")
    if any(not is_number(row[column]) for row in rows for column in plot["y"]):
        raise ValueError("a value of plot.y is not a number")
    if plot["kind"] == "line" and any(not is_number(row[column]) for row in rows for column in plot["x"]):
        raise ValueError("a value of plot.x is not a number; draw bars")
    if plot["kind"] == "contour":
        check_grid(rows, *(plot[axis][0] for axis in axes(plot)))


def check_grid(rows: list[dict[str, Any]], x: str, y: str, z: str) -> None:
    """Raise ValueError unless there is one number `z` at each crossing of a grid, at least two by two."""
    values = [row[column] for row in rows for column in (x, y)]
    if not all(is_number(value) and math.isfinite(value) for value in values):
        raise ValueError("a value of plot.x or plot.y is not a finite number")
    if any(not is_number(row[z]) for row in rows):
        raise ValueError("a value of plot.z is not a number")
    wide, high = (len({row[column] for row in rows}) for column in (x, y))
    places = {(row[x], row[y]) for row in rows}
    if not len(places) == len(rows) == wide * high or min(wide, high) < 2:
        raise ValueError("its rows are not a grid over plot.x and plot.y, with one row at each crossing")


def read_analyses(run: Run, record: dict[str, Any]) -> tuple[list[Analysis], str]:
    """Read the measurements of `resnet-lab-analyze` on the run's weights; and list what is left out, and why."""
    found, left_out = [], []
    for entry in entries(run.directory / NAME):
        try:
            found.append(read_analysis(run, record, entry))
        except (UserError, OSError, ValueError, LookupError, TypeError, AttributeError, csv.Error) as error:
            left_out.append(f"{FOLDER}/{entry.get('file')} is left out: {error}.")
    return found, " ".join(left_out)


def read_analysis(run: Run, record: dict[str, Any], entry: dict[str, Any]) -> Analysis:
    settings = dict(entry["settings"])
    if not is_of(run, hash_of_run(record["config"]), entry):
        raise ValueError("its rows are of other weights than the stored ones; resnet-lab-analyze recomputes them")
    if entry["file"] != sanitize(str(entry["file"])):
        raise ValueError("its file is not a plain name")
    text = read_regular(run.directory / FOLDER / entry["file"], MOST_BYTES)
    if hashlib.sha256(text.encode()).hexdigest() != entry["sha256"]:
        raise ValueError("it was changed or cut off")
    return check_analysis(Analysis(str(entry["analysis"]), settings, entry["plot"], parsed(text)))


def check_analysis(found: Analysis) -> Analysis:
    """Complete the plot; raise UserError or ValueError unless the analysis can be drawn."""
    if not is_at(found.settings.get("at")) or sanitize(found.name) != found.name:
        raise ValueError("its name or its settings are damaged")
    plot = check_plot(found.plot)
    check_rows(found.rows, plot)
    return found._replace(plot=plot)


def packed(found: Analysis) -> dict[str, Any]:
    """The analysis for JSON, with each column named once."""
    columns = list(found.rows[0])
    return found._asdict() | {"columns": columns, "rows": [list(row.values()) for row in found.rows]}


def unpacked(entry: dict[str, Any]) -> Analysis:
    """Undo `packed`; raises as `check_analysis`."""
    rows = [dict(zip(entry["columns"], row, strict=True)) for row in entry["rows"]]
    return check_analysis(Analysis(str(entry["name"]), dict(entry["settings"]), entry["plot"], rows))


def is_of(run: Run, hash_of_this: str, entry: dict[str, Any]) -> bool:
    """Whether an entry is of this run and, unless they are first weights or not stored, of its weights."""
    at = entry["settings"].get("at")
    if entry.get("run") != hash_of_this or not is_at(at):
        return False
    if at == AT[0]:
        return bool(entry.get("weights") == "")
    path = run.kept_path(at) if type(at) is int else run.checkpoint_path
    return not path.exists() or bool(entry.get("weights") == digest_of(path))


def parsed(text: str) -> list[dict[str, Any]]:
    return [{key: value_of(value) for key, value in row.items()} for row in csv.DictReader(text.splitlines())]


def value_of(text: Any) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except (TypeError, ValueError):
            continue
    return text


def is_there(run: Run, entry: dict[str, Any]) -> bool:
    """Whether the file of an entry is intact."""
    path = Path(run.directory, FOLDER, str(entry.get("file")))
    try:
        return hashlib.sha256(read_regular(path, MOST_BYTES).encode()).hexdigest() == entry.get("sha256")
    except (OSError, UserError, ValueError):
        return False
