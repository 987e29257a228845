"""Whether depth hurts the training error, and whether shortcuts cure it: computed from intervals, never read off a
figure. The rule, and how often it errs, are in the docstring of resnet_lab.report."""

import functools
import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from resnet_lab.config.compose import CONF
from resnet_lab.report.claims import headline as headline_of_claims
from resnet_lab.report.claims import judged
from resnet_lab.report.conditions import mixtures, resumed, stopped_early
from resnet_lab.report.intervals import CONFIDENCE, Estimate, combine, holm
from resnet_lab.report.results import Group, Study, deviation
from resnet_lab.runs.identity import sanitize

# A gap is shown where its two-sided interval would be above zero, so of the 5 % half are on that side.
LEVEL = (1 - CONFIDENCE) / 2


def trained(group: Group) -> list[float]:
    return group.trained(group.training_error)


def finals(group: Group) -> list[float]:
    return group.values(group.training_error)


@dataclass(frozen=True)
class Pair:
    """A shallower and a deeper net that differ in nothing else, by their final training errors.

    Runs that never left guessing do not count in the gap: they did not train to a higher error, but not at all.
    `margin` is the gap in points that still counts as none; `adjusted` is the p-value of the gap, adjusted for all
    depths that are compared with the same shallow net.
    """

    shallow: Group
    deep: Group
    margin: float | None
    adjusted: float = 1.0

    @functools.cached_property
    def gap(self) -> Estimate:
        """Mean of the deeper less mean of the shallower, in percentage points."""
        return combine((1, trained(self.deep)), (-1, trained(self.shallow)))

    @property
    def degraded(self) -> bool:
        return self.gap.value > 0 and self.adjusted < LEVEL and not self.shallow.not_started

    @property
    def below_margin(self) -> bool:
        """Whether the whole interval of the gap is below the margin, and every run of both nets has trained."""
        interval = self.gap.interval
        silent = self.shallow.not_started or self.deep.not_started
        return interval is not None and self.margin is not None and interval[1] < self.margin and not silent

    @property
    def outcome(self) -> str:
        if self.degraded:
            return "Degradation below the margin" if self.below_margin else "Degradation"
        return "No degradation" if self.below_margin else "Undecided"

    def sentence(self) -> str:
        ends = ", ".join(f"{net.name} ends at {spread(trained(net))}" for net in (self.deep, self.shallow))
        reasons = "; ".join(self.reservations())
        return f"{self.difference()}: {self.outcome.lower()}{f' ({reasons})' if reasons else ''}. {ends}."

    def difference(self) -> str:
        return f"{self.deep.name} {points(self.gap)} against {self.shallow.name}"

    def reservations(self) -> list[str]:
        """Why the outcome is not what the interval alone would say."""
        interval = self.gap.interval
        found = [not_started(net) for net in (self.shallow, self.deep) if net.not_started]
        if interval is None:
            found.append("one seed has no interval")
        elif interval[0] > 0 and not self.degraded and self.adjusted >= LEVEL:
            found.append("within chance for as many depths, by Holm's method")
        elif self.outcome == "Undecided" and self.margin is None:
            found.append("verdict.margin is not set")
        elif self.outcome in ("No degradation", "Degradation below the margin"):
            found.append(f"below verdict.margin={self.margin:g}")
        return found


def spread(values: Sequence[float]) -> str:
    """Mean, standard deviation and count."""
    if len(values) == 1:
        return f"{values[0]:.2f} % (n = 1)"
    return f"{statistics.fmean(values):.2f} ± {deviation(values):.2f} % (n = {len(values)})"


def points(estimate: Estimate) -> str:
    """The estimate in points with its interval."""
    if estimate.interval is None:
        return f"{estimate.value:+.2f} points"
    low, high = estimate.interval
    return f"{estimate.value:+.2f} points ({low:+.2f} to {high:+.2f})"


def not_started(group: Group) -> str:
    return f"{group.name} did not start to train in {len(group.not_started)} of {len(group.completed)} seeds"


def silent(study: Study) -> list[str]:
    """One sentence per net of which a run did not start to train, or one for all nets if no run of any did."""
    completed = [group for group in study.groups if group.completed]
    if len(completed) > 1 and all(len(group.not_started) == len(group.completed) for group in completed):
        return ["No net started to train."]
    return [f"{not_started(group)}." for group in completed if group.not_started]


def pairs(study: Study) -> list[Pair]:
    """Each chain of depths, its shallowest against each deeper one; only nets of which a run has trained."""
    found: list[Pair] = []

    def chain(group: Group) -> tuple[str, str]:
        return group.family, group.shortcut

    usable = [group for group in study.groups if trained(group) and group.depth]
    for _, members in itertools.groupby(sorted(usable, key=chain), chain):
        shallow, *deeper = sorted(members, key=lambda group: group.depth)
        margin = margin_of(shallow)
        here = [Pair(shallow, deep, margin) for deep in deeper]
        tested = [pair for pair in here if pair.gap.interval]
        found += [pair for pair in here if pair not in tested]
        chances = holm([pair.gap.chance for pair in tested])
        found += [replace(pair, adjusted=chance) for pair, chance in zip(tested, chances, strict=True)]
    return sorted(found, key=lambda pair: (pair.shallow.family, not pair.shallow.plain, pair.deep.depth))


def margin_of(group: Group) -> float | None:
    """`verdict.margin` of the runs' configs, None where they differ; of the experiment's, where they have none."""
    asked = [result.config["verdict"] for result in group.completed if result.config.get("verdict")]
    margins = {json.dumps(verdict.get("margin")) for verdict in asked}
    if not asked:
        margins = {json.dumps(margin_of_experiment(group.results[0].experiment))}
    margin = json.loads(margins.pop()) if len(margins) == 1 else None
    return float(margin) if isinstance(margin, (int, float)) and margin > 0 else None


def margin_of_experiment(name: str) -> Any:
    """The margin in conf/experiment/<name>.yaml, for runs from before the setting existed."""
    path = Path(CONF, "experiment", f"{sanitize(name)}.yaml")
    return OmegaConf.select(OmegaConf.load(path), "verdict.margin") if path.is_file() else None


def verdict(study: Study) -> list[str]:
    """Sentences; the first is the verdict, effects before words."""
    compared = pairs(study)
    sentences = [headline(compared), *(pair.sentence() for pair in compared)]
    if study.several_models:
        sentences = [comparison(study), *(sentences if compared else [])]
    if claims := judged(study):
        sentences = [headline_of_claims(claims), *(claim.sentence() for claim in claims)]
    sentences += silent(study)
    counts = [len(finals(group)) for group in study.groups if finals(group)]
    if counts and min(counts) == 1:
        sentences.append("One seed proves nothing: run several (seed=0,1,2,3,4) before believing this.")
    sentences += [*mixtures(study), *resumed(study), *stopped_early(study)]
    unfinished = sum(result.status != "completed" for result in study.results)
    if unfinished:
        sentences.append(f"{unfinished} of {len(study.results)} runs are not complete and are left out.")
    return sentences


def headline(compared: list[Pair]) -> str:
    if not compared:
        return "No verdict: there are no two depths of one net to compare yet."
    if len({pair.shallow.family for pair in compared}) > 1:
        return "Several recipes: no verdict over all of them, one for each pair below."
    plain = [pair for pair in compared if pair.shallow.plain]
    residual = [pair for pair in compared if not pair.shallow.plain]
    if not plain or not residual:
        pair = worst(compared)
        return f"{pair.difference()}: {pair.outcome.lower()} in the {'plain' if plain else 'residual'} nets."
    hurt = worst(plain)
    mended = [pair for pair in residual if pair.deep.depth == hurt.deep.depth] or [worst(residual)]
    effects = "; ".join(pair.difference() for pair in (hurt, *mended))
    if not hurt.degraded:
        nothing = ", so there is nothing to cure" if hurt.outcome == "No degradation" else ""
        return f"{effects}: {hurt.outcome.lower()} in the plain nets{nothing}."
    return f"{effects}: degradation in the plain nets, {cure(plain, residual)}."


def worst(compared: list[Pair]) -> Pair:
    """The pair that decides the verdict: the clearest outcome, then the largest gap among runs that trained."""
    order = ("Degradation", "Degradation below the margin", "Undecided", "No degradation")
    return min(compared, key=lambda pair: (order.index(pair.outcome), -pair.gap.value))


def cure(plain: list[Pair], residual: list[Pair]) -> str:
    """Whether shortcuts cure what depth does to the plain nets, at every depth at which it does.

    Cured needs both, with intervals: each residual gap below the margin, each plain gap above the residual one
    between the same depths.
    """
    hurt = {depths(pair): pair for pair in plain if pair.degraded}
    against = [(hurt[depths(pair)], pair) for pair in residual if depths(pair) in hurt]
    gains = [interaction(*both) for both in against]
    gained = all(gain.interval is not None and gain.interval[0] > 0 for gain in gains)
    all_there = {depths(mended) for _, mended in against} == hurt.keys()
    if all_there and gained and all(mended.below_margin for _, mended in against):
        return "cured by shortcuts"
    if any(mended.outcome == "Degradation" for _, mended in against):
        return "lessened but not cured by shortcuts" if gained else "not cured by shortcuts"
    return "lessened by shortcuts, whether cured is undecided" if against and gained else "cure undecided"


def depths(pair: Pair) -> tuple[int, int]:
    return pair.shallow.depth, pair.deep.depth


def interaction(plain: Pair, residual: Pair) -> Estimate:
    """The plain gap less the residual gap: what shortcuts save, in points."""
    nets = ((1, plain.deep), (-1, plain.shallow), (-1, residual.deep), (1, residual.shallow))
    return combine(*((sign, trained(net)) for sign, net in nets))


def comparison(study: Study) -> str:
    """Sentence on nets trained alike: which fits best, and which no cheaper one beats."""
    nets = [group for group in study.groups if finals(group)]
    if len({recipe_without_model(group) for group in nets}) > 1:
        return "Several recipes: the nets are not trained alike, and are not compared."
    if len(nets) < 2:
        return "No verdict: there are no two nets to compare yet."
    best = min(nets, key=lambda group: statistics.fmean(finals(group)))
    front = [group.name for group in sorted(nets, key=cost) if not any(beats(other, group) for other in nets)]
    return (
        f"Of {len(nets)} nets trained alike, {best.name} has the lowest mean training error, "
        f"{spread(finals(best))}; none with as few multiply-adds has a lower one than {', '.join(front)}."
    )


def beats(one: Group, other: Group) -> bool:
    """Whether it is at least as cheap, and better."""
    errors = [statistics.fmean(finals(group)) for group in (one, other)]
    return cost(one) <= cost(other) and errors[0] < errors[1]


def cost(group: Group) -> float:
    """Multiply-adds per image."""
    return group.values("multiply_adds")[0] if group.values("multiply_adds") else 0.0


def recipe_without_model(group: Group) -> str:
    *where, config = json.loads(group.family)
    return json.dumps([*where, {key: value for key, value in config.items() if key != "model"}], sort_keys=True)
