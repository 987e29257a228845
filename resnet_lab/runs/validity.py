"""Allowed content of a record, a curve and an evaluation, which anybody may have edited."""

from collections.abc import Sequence
from typing import Any

from resnet_lab.runs.identity import identity, label
from resnet_lab.runs.jobs import job_of
from resnet_lab.text import one_line

ERRORS = ("train_error", "train_error_clean", "val_error", "test_error")
# Of tasks other than classification.
MEASURES = (
    *("test_map_50", "test_map", "test_map_small", "test_map_medium", "test_map_large"),
    *("test_error_top5", "test_class_error", "test_box_error", "test_pixel_error"),
)
STATUSES = ("running", "completed", "failed", "interrupted")
MOST_ITERATIONS = 10**10
SHAPES: dict[str, Any] = {
    "status": str,
    "config": dict,
    "data": dict | None,
    "machine": dict | None,
    "versions": dict | None,
    "git": dict | None,
    "parameters": int | None,
}
BLOCKS = ("model", "data", "optimizer", "schedule", "trainer", "runtime", "verdict")
# The least and the greatest values that can be true.
RANGES: dict[str, tuple[int, int]] = {
    **dict.fromkeys((*ERRORS, *MEASURES), (0, 100)),
    "parameters": (0, 10**13),
    "multiply_adds": (0, 10**18),
    "iterations": (0, MOST_ITERATIONS),
    "stopped_early": (1, MOST_ITERATIONS),
    "images_per_second": (0, 10**9),
    "seconds": (0, 10**10),
    "threads": (1, 4096),
}


def check_facts(record: dict[str, Any]) -> None:
    """Check the parts of a record that others than its own run use.

    Raises:
        LookupError, TypeError, ValueError: something is missing, of another type, or out of its range.
    """
    for key, kinds in SHAPES.items():
        if not isinstance(record.get(key), kinds):
            raise TypeError(f"{key} is {shown(record.get(key))}")
    if record["status"] not in STATUSES:
        raise ValueError(f"status is {shown(record['status'])}")
    check_config(record["config"])
    job = job_of(record["config"])
    for key, (least, most) in RANGES.items() if job and job.trains else ():  # a benchmark has several speeds
        if record.get(key) is not None:
            check_number(key, record[key], least, most)


def check_config(config: dict[str, Any]) -> None:
    for block in BLOCKS:
        if not isinstance(config.get(block), dict if block == "model" else dict | None):
            raise TypeError(f"config.{block} is {shown(config.get(block))}")
    if job_of(config) is None:
        raise ValueError(f"config.job is {shown(config['job'])}")
    for key, (least, most) in {"seed": (0, 2**32 - 1), "iterations": (0, MOST_ITERATIONS)}.items():
        if type(config.get(key, 1)) is not int:
            raise TypeError(f"config.{key} is {shown(config[key])}")
        check_number(f"config.{key}", config.get(key, 1), least, most)
    label(config)
    identity(config)


def check_curve(steps: Sequence[int], errors: dict[str, list[float]]) -> None:
    """Raise ValueError unless the steps go up and the errors are in percent."""
    for before, step in zip((0, *steps), steps, strict=False):
        if not before < step <= MOST_ITERATIONS:
            raise ValueError(f"step {shown(step)} follows {shown(before)} in metrics.csv")
    for key, values in errors.items():
        for step, value in zip(steps, values, strict=True):
            check_number(f"{key} at step {step}", value, 0, 100)


def check_evaluation(entry: dict[str, Any]) -> dict[str, Any]:
    """Raise ValueError unless the entry has a protocol and errors in percent."""
    if not isinstance(entry.get("protocol"), dict) or not isinstance(entry["protocol"].get("name"), str):
        raise ValueError("an evaluation has no protocol")
    for key in ("error", "error_top5"):
        check_number(key, entry.get(key, 0), 0, 100)
    if "error" not in entry or not isinstance(entry.get("members", []), list):
        raise ValueError("an evaluation has no error")
    return entry


def check_number(name: str, value: Any, least: int, most: int) -> None:
    if type(value) not in (int, float) or not least <= value <= most:
        raise ValueError(f"{name} is {shown(value)}")


def is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < MOST_ITERATIONS**2)


def shown(value: object) -> str:
    return one_line(value, 80)
