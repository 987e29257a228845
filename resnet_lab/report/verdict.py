"""Whether depth hurts the training error: computed, with its spread, never read off a figure."""

import itertools
import json
import statistics
from dataclasses import dataclass

from scipy import stats

from resnet_lab.report.results import Group, Study, deviation

ERROR = "train_error"
CONFIDENCE = 0.95
# With one seed there is no spread to hold a gap against; a smaller one than this is left undecided.
ONE_SEED_MARGIN = 1.0


@dataclass(frozen=True)
class Pair:
    """A shallower and a deeper net that differ in nothing else, by their final training errors."""

    shallow: Group
    deep: Group

    @property
    def gap(self) -> float:
        """Mean of the deeper less mean of the shallower, in percentage points."""
        return statistics.fmean(self.deep.values(ERROR)) - statistics.fmean(self.shallow.values(ERROR))

    @property
    def variances(self) -> list[float]:
        """Of the two means."""
        sides = (self.shallow.values(ERROR), self.deep.values(ERROR))
        return [deviation(side) ** 2 / len(side) for side in sides]

    @property
    def seeds(self) -> int:
        return min(len(self.shallow.values(ERROR)), len(self.deep.values(ERROR)))

    @property
    def margin(self) -> float:
        """What a gap must exceed not to be chance: a one-sided Welch test at 95 %."""
        if self.seeds == 1:
            return ONE_SEED_MARGIN
        total = sum(self.variances)
        if total == 0:
            return 0.0
        counts = (len(self.shallow.values(ERROR)), len(self.deep.values(ERROR)))
        degrees = total**2 / sum(v**2 / (n - 1) for v, n in zip(self.variances, counts, strict=True))
        return float(stats.t.ppf(CONFIDENCE, degrees) * total**0.5)

    @property
    def outcome(self) -> str:
        if self.gap > self.margin:
            return "Degradation"
        return "No degradation" if self.gap <= 0 else "Undecided"

    def sentence(self) -> str:
        chance = f", where chance could make {self.margin:.2f}" if self.seeds > 1 else ""
        return (
            f"{self.outcome}: {self.deep.name} ends at {spread(self.deep.values(ERROR))} training error, "
            f"{self.shallow.name} at {spread(self.shallow.values(ERROR))}: "
            f"a gap of {self.gap:+.2f} points{chance}."
        )


def spread(values: list[float]) -> str:
    """Mean, standard deviation and count."""
    if len(values) == 1:
        return f"{values[0]:.2f} % (n = 1)"
    return f"{statistics.fmean(values):.2f} ± {deviation(values):.2f} % (n = {len(values)})"


def pairs(study: Study) -> list[Pair]:
    """Each chain of depths, its shallowest against each deeper one; only groups with a completed run."""
    found = []

    def chain(group: Group) -> tuple[str, str]:
        return group.family, group.shortcut

    usable = [group for group in study.groups if group.values(ERROR) and group.depth]
    for _, members in itertools.groupby(sorted(usable, key=chain), chain):
        shallow, *deeper = sorted(members, key=lambda group: group.depth)
        found += [Pair(shallow, deep) for deep in deeper]
    return sorted(found, key=lambda pair: (pair.shallow.family, not pair.shallow.plain))


def verdict(study: Study) -> list[str]:
    """Sentences; the first is the verdict in a word or two."""
    compared = pairs(study)
    sentences = [headline(compared), *(pair.sentence() for pair in compared)]
    if study.several_models:
        sentences = [comparison(study), *sentences[bool(not compared) :]]
    seeds = [pair.seeds for pair in compared]
    if study.several_models:
        seeds += [len(group.values(ERROR)) for group in study.groups if group.values(ERROR)]
    if seeds and min(seeds) == 1:
        sentences.append("One seed proves nothing: run several (seed=0,1,2) before believing this.")
    unfinished = sum(result.status != "completed" for result in study.results)
    if unfinished:
        sentences.append(f"{unfinished} of {len(study.results)} runs are not complete and are left out.")
    return sentences


def comparison(study: Study) -> str:
    """Of nets that are trained alike: who fits best, and whom no cheaper one beats."""
    nets = [group for group in study.groups if group.values(ERROR)]
    if len({recipe_without_model(group) for group in nets}) > 1:
        return "Several recipes: the nets are not trained alike, and are not compared."
    if len(nets) < 2:
        return "No verdict: there are no two nets to compare yet."
    best = min(nets, key=lambda group: statistics.fmean(group.values(ERROR)))
    front = [group.name for group in sorted(nets, key=cost) if not any(beats(other, group) for other in nets)]
    return (
        f"Of {len(nets)} nets trained alike, {best.name} has the lowest training error, "
        f"{spread(best.values(ERROR))}; none with as few multiply-adds has a lower one than {', '.join(front)}."
    )


def beats(one: Group, other: Group) -> bool:
    """Whether it is at least as cheap, and better."""
    errors = [statistics.fmean(group.values(ERROR)) for group in (one, other)]
    return cost(one) <= cost(other) and errors[0] < errors[1]


def cost(group: Group) -> float:
    """Multiply-adds of an image."""
    return group.values("multiply_adds")[0] if group.values("multiply_adds") else 0.0


def recipe_without_model(group: Group) -> str:
    family = json.loads(group.family)
    family[2].pop("model", None)
    return json.dumps(family, sort_keys=True)


def headline(compared: list[Pair]) -> str:
    if not compared:
        return "No verdict: there are no two depths of one net to compare yet."
    if len({pair.shallow.family for pair in compared}) > 1:
        return "Several recipes: no verdict over all of them, one for each pair below."
    plain = [pair for pair in compared if pair.shallow.plain]
    residual = [pair for pair in compared if not pair.shallow.plain]
    if not plain or not residual:
        return f"{worst(compared).outcome} in the {'plain' if plain else 'residual'} nets ({gaps(compared)})."
    if worst(plain).outcome != "Degradation":
        return f"{worst(plain).outcome} in the plain nets ({gaps(plain)}), so there is nothing to cure."
    cured = "not cured" if worst(residual).outcome == "Degradation" else "cured"
    return f"Degradation in the plain nets ({gaps(plain)}), {cured} by shortcuts ({gaps(residual)})."


def worst(compared: list[Pair]) -> Pair:
    order = ("Degradation", "Undecided", "No degradation")
    return min(compared, key=lambda pair: (order.index(pair.outcome), -pair.gap))


def gaps(compared: list[Pair]) -> str:
    """The gap that the verdict is about."""
    return f"{worst(compared).gap:+.2f} points"
