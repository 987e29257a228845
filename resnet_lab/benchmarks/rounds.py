"""Contenders timed in turn, round after round, so that other load on the machine hits all of them; as ratios.

A contender that is left out has no speeds, an empty list.
"""

import csv
import logging
import statistics
from abc import ABC, abstractmethod

log = logging.getLogger(__name__)

ROUNDS = 5


class Contender(ABC):
    """One way of doing the same work."""

    @abstractmethod
    def turn(self) -> float:
        """Do the work once; return images per second."""


def measure(contenders: dict[str, Contender]) -> dict[str, list[float]]:
    """Measure images per second of each contender's turn in every round, after an uncounted first turn of each."""
    for contender in contenders.values():
        contender.turn()  # compiles, allocates, starts workers
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(1, ROUNDS + 1):
        for name, contender in contenders.items():
            speeds[name].append(contender.turn())
        log.info("round %d: %s", number, ", ".join(f"{n} {s[-1]:.0f} images/s" for n, s in speeds.items()))
    return speeds


def ratios(speeds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Divide the first contender's speeds by each other's, round by round: median and range."""
    first, *others = speeds
    return {f"{first} / {other}": ratio(speeds[first], speeds[other]) for other in others if speeds[other]}


def ratio(ours: list[float], theirs: list[float]) -> dict[str, float]:
    by_round = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(by_round), "min": min(by_round), "max": max(by_round)}


def rounds_csv(speeds: dict[str, list[float]]) -> str:
    """Write the measured numbers as CSV, one row per round and contender; the table can be recomputed from it.

    A contender that is left out has one row, without round and number, after the others.
    """
    measured = {name: values for name, values in speeds.items() if values}
    lines = ["round,contender,images_per_second"]
    for number, values in enumerate(zip(*measured.values(), strict=True), 1):
        lines += [f'{number},"{name}",{value!r}' for name, value in zip(measured, values, strict=True)]
    lines += [f',"{name}",' for name in speeds if name not in measured]
    return "\n".join(lines) + "\n"


def read_rounds(text: str) -> dict[str, list[float]]:
    """Read the contenders' images per second in every round from the text of `rounds_csv`."""
    speeds: dict[str, list[float]] = {}
    for row in csv.DictReader(text.splitlines()):
        values = speeds.setdefault(row["contender"], [])
        if row["round"]:
            values.append(float(row["images_per_second"]))
    return speeds


def markdown_table(speeds: dict[str, list[float]]) -> str:
    """Write medians and ratios as a Markdown table, one row per contender; the first is who is compared."""
    first = next(iter(speeds))
    lines = [f"| contender | images/s (median) | {first} / contender (median, range) |", "| --- | --- | --- |"]
    for name, values in speeds.items():
        shown = ratio_shown(speeds[first], values) if values and name != first else ""
        lines.append(f"| {name} | {f'{statistics.median(values):.0f}' if values else 'left out'} | {shown} |")
    return "\n".join(lines) + "\n"


def ratio_shown(ours: list[float], theirs: list[float]) -> str:
    r = ratio(ours, theirs)
    return f"{r['median']:.2f} ({r['min']:.2f} to {r['max']:.2f})"
