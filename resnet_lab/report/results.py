"""Runs as read from their directories, and as groups of seeds."""

import functools
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from resnet_lab.checks import UserError
from resnet_lab.config.tasks import CLASSIFICATION, name_of
from resnet_lab.runs.directory import Run, end_of
from resnet_lab.runs.find import find_runs
from resnet_lab.runs.identity import hash_of, hash_of_run, identity, label
from resnet_lab.runs.jobs import trains
from resnet_lab.runs.noted import evaluations
from resnet_lab.runs.rows import Analysis, read_analyses
from resnet_lab.runs.sealed import digest_of
from resnet_lab.runs.swept import joined, said, settings, swept, title
from resnet_lab.runs.validity import (
    ERRORS,
    MOST_ITERATIONS,
    check_curve,
    check_evaluation,
    check_facts,
    check_number,
    is_number,
)
from resnet_lab.text import one_line

CURVES = ("train_error", "val_error")
# A net has left guessing once its running training error was below this share of the error of a guess: 80 % with
# ten classes, where the paper ends the warm-up of ResNet-110 (Section 4.2).
GUESSING = 8 / 9
# Nets that have shortcuts and no setting for them.
WITH_SHORTCUTS = ("highway", "inception_resnet_v2")
# More points than a figure has pixels across are only work.
MOST_POINTS = 500
LONGEST_REASON = 1000  # characters


class Curve(NamedTuple):
    """Errors in percent at each iteration that was evaluated."""

    steps: list[int]
    train_error: list[float]
    val_error: list[float]


@dataclass(frozen=True)
class Result:
    """One run: completed, failed, interrupted, running or missing."""

    directory: Path
    status: str
    reason: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    curve: Curve = field(default_factory=lambda: Curve([], [], []))
    evaluations: list[dict[str, Any]] = field(default_factory=list)  # by protocols, of the last iteration
    analyses: list[Analysis] = field(default_factory=list)
    # images (a checksum) and processes of the other runs of its config, where it has not begun to train
    expected: tuple[str, int] = ("", 1)

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.record.get("config", {})
        return config

    @property
    def experiment(self) -> str:
        return one_line(self.config.get("experiment_name", self.directory.parent.parent.name))

    @property
    def seed(self) -> str:
        return one_line(self.config.get("seed", self.directory.name.removeprefix("seed")))

    @property
    def processes(self) -> int:
        """Over how many processes the batches were split: batch statistics are then of as many images fewer."""
        found = self.record.get("processes", self.expected[1])
        return found if isinstance(found, int) and found > 0 else 1

    @property
    def started(self) -> bool:
        """Whether a classifier has ever left guessing; true where the record has no number of classes."""
        if name_of(self.config) != CLASSIFICATION:
            return True
        classes = (self.record.get("data") or {}).get("classes")
        guess = 100 * (1 - 1 / classes) if isinstance(classes, int) and classes > 1 else 100 / GUESSING
        return min(self.curve.train_error, default=0.0) < GUESSING * guess


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed."""

    name: str  # short, and another for each group of a study: resnet-56-A, lr 0.1
    depth: int
    shortcut: str
    family: str  # the same for groups that differ in depth and shortcut alone
    results: list[Result]
    title: str = ""  # as people write it: ResNet-56, option A, lr 0.1

    @property
    def config(self) -> dict[str, Any]:
        return self.results[0].config

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """Settings that identify its runs, by dotted names; empty if no run has begun."""
        return settings(self.config) if self.config else {}

    @property
    def model(self) -> str:
        """The name of the function that makes the net; the same for plain and residual."""
        return str(self.config.get("model", {}).get("_target_", "")).rpartition(".")[2]

    @property
    def plain(self) -> bool:
        """Whether the net has no shortcuts."""
        return self.shortcut == "none" or (not self.shortcut and self.model not in WITH_SHORTCUTS)

    @property
    def training_error(self) -> str:
        """The error in a record that stands for training; a detector's own one is of sampled regions."""
        return "train_error_clean" if name_of(self.config) == "detection" else "train_error"

    @property
    def completed(self) -> list[Result]:
        return [result for result in self.results if result.status == "completed"]

    @property
    def not_started(self) -> list[Result]:
        """The completed runs that never left guessing: another phenomenon than a higher training error."""
        return [result for result in self.completed if not result.started]

    def trained(self, key: str) -> list[float]:
        """Values from the records of the completed runs that left guessing, one per seed."""
        return [float(r.record[key]) for r in self.completed if r.started and r.record.get(key) is not None]

    def values(self, key: str) -> list[float]:
        """Values from the records of the completed runs, one per seed."""
        return [float(result.record[key]) for result in self.completed if result.record.get(key) is not None]

    def mean_curve(self, key: str) -> tuple[list[int], list[float], list[float]]:
        """Steps, means and standard deviations over the completed runs, or over all if none is."""
        curves = [r.curve for r in (self.completed or self.results) if r.curve.steps]
        if not curves:
            return [], [], []
        by_step = [dict(zip(curve.steps, getattr(curve, key), strict=True)) for curve in curves]
        steps = sorted(set.intersection(*(set(values) for values in by_step)))
        columns = [[values[step] for values in by_step] for step in steps]
        return steps, [statistics.fmean(c) for c in columns], [deviation(c) for c in columns]


@dataclass(frozen=True)
class Study:
    """The runs of one report."""

    results: list[Result]
    groups: list[Group]
    ensembles: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)  # files that cannot be used, and why

    @property
    def several_models(self) -> bool:
        """Whether nets are compared that differ in more than depth and shortcut."""
        return len({group.model for group in self.groups if group.model}) > 1

    @functools.cached_property
    def swept(self) -> list[str]:
        """The settings that tell its groups apart, beside the names of the nets."""
        return swept([group.config for group in self.groups if group.config])

    @property
    def experiments(self) -> list[str]:
        return sorted({result.experiment for result in self.results})


def deviation(values: Sequence[float]) -> float:
    """The sample standard deviation; 0 for one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


class NotYet(UserError):
    """There is nothing to report, as the first runs have only just begun."""


def read_results(paths: Iterable[Path], committed: Callable[[Path], list[Result]] = lambda path: []) -> Study:
    """All training runs under the paths, and those that a sweep planned and that are missing.

    `committed` reads those of a folder that has no run directories.

    Raises:
        NotYet: the first of them have only just begun.
        UserError: there are none.
    """
    paths = list(paths)
    results: list[Result] = []
    ensembles, left_out = read_ensembles(paths)
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist")
        found = find_runs(path.resolve())
        left_out |= found.left_out
        directories = sorted(found.directories - {result.directory for result in results})
        results += [read_run(directory) for directory in directories] or committed(path.resolve())
    for file, reason in left_out.items():
        print(one_line(f"{file} is left out: {reason}"), file=sys.stderr)
    results = without_twins(with_images([result for result in results if trains(result.config)]))
    if not results:
        where = ", ".join(map(str, paths))
        if any(next(path.rglob(name), None) for path in paths for name in (".plan.lock", ".lock")):
            raise NotYet(f"the runs in {where} have only just begun, and none has a record yet; try again")
        raise UserError(f"there are no training runs in {where}")
    return Study(results, group(results), ensembles, left_out)


def with_images(results: list[Result]) -> list[Result]:
    """Runs whose images were not read yet, with what is known from the other runs of their config."""
    known: dict[tuple[str, str], set[tuple[str, int]]] = {}
    for result in results:
        if images(result):
            known.setdefault(unread(result), set()).add((images(result), result.processes))
    found = {key: next(iter(of_key)) for key, of_key in known.items() if len(of_key) == 1}
    return [r if images(r) else replace(r, expected=found.get(unread(r), r.expected)) for r in results]


def unread(result: Result) -> tuple[str, str]:
    return result.experiment, hash_of(identity(result.config))


def without_twins(results: list[Result]) -> list[Result]:
    """One of those that are the same run and seed: a completed one, and rather a run than its committed copy."""
    kept: dict[tuple[str, str, str], Result] = {}
    for result in sorted(results, key=lambda one: (one.status != "completed", not one.directory.is_dir())):
        kept.setdefault((*recipe(result), result.seed), result)
    left = [result for result in results if kept[*recipe(result), result.seed] is result or not result.config]
    if twins := len(results) - len(left):
        print(f"{twins} run{'s' * (twins > 1)} left out, as the same run and seed is there twice", file=sys.stderr)
    return left


def read_run(directory: Path) -> Result:
    run = Run(directory)
    try:
        record = run.record()
        curve = read_curve(run)
        if record:
            check_record(record, curve)
        status = run.status()
    except (UserError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        return Result(directory, "unreadable", one_line(f"{type(error).__name__}: {error}", LONGEST_REASON))
    reason = str(record.get("error") or "")
    try:
        noted = read_evaluations(run, record) if record else []
    except (UserError, OSError, ValueError) as error:
        noted, reason = [], f"{reason} evaluations.json is left out: {error}".strip()
    try:
        analyses, left_out = read_analyses(run, record) if record else ([], "")
    except (UserError, OSError, ValueError) as error:
        analyses, left_out = [], f"analyses.json is left out: {error}"
    reason = f"{reason} {left_out}".strip()
    return Result(directory, status, one_line(reason, LONGEST_REASON), record, curve, noted, analyses)


def read_evaluations(run: Run, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Evaluations of the run's last iteration by `resnet-lab-eval`."""
    found = evaluations(run.directory / "evaluations.json")
    if not found:
        return []
    last = {"run": hash_of_run(record["config"]), "iteration": record.get("iterations")}
    return [
        check_evaluation(entry)
        for entry in found
        if {key: entry.get(key) for key in last} == last and are_stored(run, entry.get("weights"))
    ]


def are_stored(run: Run, weights: Any) -> bool:
    """Whether these weights are the run's last; true where they are not at hand."""
    return not run.checkpoint_path.exists() or digest_of(run.checkpoint_path) == weights


def read_ensembles(paths: Iterable[Path]) -> tuple[list[dict[str, Any]], dict[Path, str]]:
    """The ensembles' evaluations, and files that cannot be used, with the reason."""
    files = sorted({file for path in paths for file in path.rglob("ensembles.json")})
    found, left_out = [], {}
    for file in files:
        try:
            found += [check_evaluation(entry) for entry in evaluations(file) if is_current(file.parent, entry)]
        except (UserError, OSError, ValueError) as error:
            left_out[file] = str(error)
    return found, left_out


def is_current(folder: Path, entry: dict[str, Any]) -> bool:
    """Whether an ensemble's members still have the weights that were evaluated.

    Raises:
        ValueError: the entry does not say which members it had.
    """
    members, facts = entry.get("members"), entry.get("of")
    if not isinstance(members, list) or not members or not all(isinstance(name, str) for name in members):
        raise ValueError("an ensemble has no members")
    if not isinstance(facts, list) or len(facts) != len(members) or not all(isinstance(f, dict) for f in facts):
        raise ValueError("an ensemble does not say of what it is")
    return all(
        are_stored(Run(folder / name), fact.get("weights")) for name, fact in zip(members, facts, strict=True)
    )


def check_record(record: dict[str, Any], curve: Curve) -> None:
    """Raise unless the record is fit for a report, and a completed one has its errors, as in its curve."""
    check_facts(record)
    iterations = record["config"].get("iterations", MOST_ITERATIONS)
    if curve.steps and curve.steps[-1] > iterations:
        raise ValueError(f"metrics.csv has step {curve.steps[-1]}, after the last iteration")
    if record["status"] == "completed" and trains(record["config"]):
        for key in expected_errors(record["config"]):
            check_number(key, record[key], 0, 100)
        if (curve.steps or [0])[-1] != end_of(record):
            raise ValueError("metrics.csv does not end at the last iteration")
        for key in CURVES if curve.steps else ():
            if getattr(curve, key)[-1] != record[key]:
                raise ValueError(f"{key} is {record[key]}, but {getattr(curve, key)[-1]} in metrics.csv")


def expected_errors(config: dict[str, Any]) -> list[str]:
    """Names of the errors of a completed run: none at initialization, a clean one if there are images for it."""
    if config.get("iterations") == 0:
        return []
    without = (config.get("runtime") or {}).get("final_train_images") == 0
    return [key for key in ERRORS if not (without and key == "train_error_clean")]


def read_curve(run: Run) -> Curve:
    """All rows are checked; of many, few are kept."""
    rows = run.metrics()
    if any(not_finite(value) for row in rows for value in row.values()):
        raise ValueError(f"{run.metrics_path.name} has a number that is not finite")
    steps = [int(row["step"]) for row in rows]
    errors = {key: [float(row[key]) for row in rows] for key in CURVES}
    check_curve(steps, errors)
    # a power of two, so that what is left of a longer curve is also left of a shorter one
    stride = 1 << (len(rows) // (MOST_POINTS - 1)).bit_length()
    kept = sorted({*range(0, len(rows), stride), *range(len(rows))[-1:]})
    return Curve([steps[i] for i in kept], *([errors[key][i] for i in kept] for key in CURVES))


def not_finite(value: str) -> bool:
    return value.strip().lower().lstrip("+-") in ("nan", "inf", "infinity")


def group(results: list[Result]) -> list[Group]:
    """The runs by what identifies them; those without a config by their folder, which seeds of one net share."""
    several = len({result.experiment for result in results}) > 1
    known = {result.directory.parent: recipe(result) for result in results if result.config}

    def key_of(result: Result) -> tuple[str, str]:
        return recipe(result) if result.config else known.get(result.directory.parent, recipe(result))

    ordered = sorted(results, key=lambda result: (key_of(result), not result.config))
    found = [(key, list(members)) for key, members in itertools.groupby(ordered, key_of)]
    keys = swept([runs[0].config for _, runs in found if runs[0].config])
    groups = []
    for (experiment, run_name), runs in found:
        config, short = runs[0].config, one_line(run_name.rpartition("-")[0] or run_name)
        differs = said(config, keys) if config else ""
        where = f"{experiment}/" if several else ""
        made = make_group(where + joined(short, differs), runs)
        net = where + (net_title(config, runs[0].processes) if config else short)
        groups.append(replace(made, title=joined(net, differs)))
    return sorted(groups, key=lambda g: (not g.plain, g.shortcut, g.depth, in_order(g, keys), g.name))


def net_title(config: dict[str, Any], processes: int) -> str:
    return joined(title(config), f"{processes} processes" if processes > 1 else "")


def in_order(group: Group, keys: Sequence[str]) -> list[tuple[bool, float, str]]:
    """Its values of these settings, to be sorted by: numbers by size, then words."""
    return [order(group.settings.get(key)) for key in keys]


def order(value: Any) -> tuple[bool, float, str]:
    return (False, float(value), "") if is_number(value) else (True, 0.0, str(value))


def recipe(result: Result) -> tuple[str, str]:
    """The experiment, and a name for what identifies the run in it: its config, its images and its processes."""
    if not result.config:
        return result.experiment, result.directory.parent.name
    processes = f"-{result.processes}-processes" if result.processes > 1 else ""
    key = hash_of([identity(result.config), images(result)])
    return result.experiment, f"{label(result.config)}{processes}-{key}"


def images(result: Result) -> str:
    return str((result.record.get("data") or {}).get("sha256", result.expected[0]))


def make_group(name: str, runs: list[Result]) -> Group:
    config = identity(runs[0].config) if runs[0].config else {}
    model = dict(config.get("model", {}))
    # a depth that is not a number forms no chain of depths; it tells nets apart
    depth = model.pop("depth") if type(model.get("depth")) is int else 0
    shortcut = str(model.pop("shortcut", ""))
    where = [runs[0].experiment, images(runs[0]), runs[0].processes]
    family = json.dumps([*where, config | {"model": model}], sort_keys=True)
    return Group(name, depth, shortcut, family, runs)
