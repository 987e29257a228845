"""Whether depth hurts the training error: computed, with its spread, never read off a figure."""

import itertools
import statistics
from dataclasses import dataclass

from resnet_lab.report.results import Group, Study, deviation

ERROR = "train_error"


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
    def standard_error(self) -> float:
        """Of the gap (Welch); 0 where a side has one seed and no spread is known."""
        sides = [group.values(ERROR) for group in (self.shallow, self.deep)]
        return float(sum(deviation(side) ** 2 / len(side) for side in sides) ** 0.5)

    @property
    def seeds(self) -> int:
        return min(len(self.shallow.values(ERROR)), len(self.deep.values(ERROR)))

    @property
    def degrades(self) -> bool:
        """The deeper net's training error is higher, by more than two standard errors of the gap."""
        return self.gap > 2 * self.standard_error

    def sentence(self) -> str:
        noise = f" (standard error {self.standard_error:.2f})" if self.seeds > 1 else ""
        return (
            f"{self.deep.name} ends at {spread(self.deep.values(ERROR))} training error, "
            f"{self.shallow.name} at {spread(self.shallow.values(ERROR))}: a gap of {self.gap:+.2f} points{noise}"
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
    return sorted(found, key=lambda pair: not pair.shallow.plain)


def verdict(study: Study) -> list[str]:
    """Sentences; the first is the verdict in a word or two."""
    compared = pairs(study)
    plain = [pair for pair in compared if pair.shallow.plain]
    residual = [pair for pair in compared if not pair.shallow.plain]
    sentences = [headline(plain, residual)]
    for pair in compared:
        sentences.append(f"{'Degradation' if pair.degrades else 'No degradation'}: {pair.sentence()}.")
    if compared and min(pair.seeds for pair in compared) == 1:
        sentences.append("One seed proves nothing: run several (seed=0,1,2) before believing this.")
    unfinished = sum(result.status != "completed" for result in study.results)
    if unfinished:
        sentences.append(f"{unfinished} of {len(study.results)} runs are not complete and are left out.")
    return sentences


def headline(plain: list[Pair], residual: list[Pair]) -> str:
    if not plain and not residual:
        return "No verdict: there are no two depths of one net to compare yet."
    degradation = any(pair.degrades for pair in plain)
    if not residual:
        return "Degradation in the plain nets." if degradation else "No degradation in the plain nets."
    remains = any(pair.degrades for pair in residual)
    if not plain:
        return "Degradation in the residual nets." if remains else "No degradation in the residual nets."
    if not degradation:
        return "No degradation in the plain nets, so there is nothing to cure."
    return "Degradation, not cured by shortcuts." if remains else "Degradation, cured by shortcuts."
