"""Differences between means with their intervals, as a statistician would sign them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

CONFIDENCE = 0.95  # of the two-sided intervals


@dataclass(frozen=True)
class Estimate:
    """A combination of means in points, with its standard error and degrees of freedom (Welch, Satterthwaite).

    A mean over one seed has no spread to judge by: `degrees` is 0 and there is no interval.
    """

    value: float
    error: float
    degrees: float

    @property
    def interval(self) -> tuple[float, float] | None:
        """The two-sided interval at 95 %; a single point where no seed differs from another."""
        if not self.degrees:
            return None
        half = float(special.stdtrit(self.degrees, (1 + CONFIDENCE) / 2)) * self.error if self.error else 0.0
        return self.value - half, self.value + half

    @property
    def chance(self) -> float:
        """One-sided p-value: how often a value as large would be seen if the true one were not above zero."""
        if not self.degrees:
            return 1.0
        if not self.error:
            return 0.0 if self.value > 0 else 1.0
        return float(special.stdtr(self.degrees, -self.value / self.error))


def combine(*terms: tuple[int, Sequence[float]]) -> Estimate:
    """The sum of the samples' means, each times its sign: (1, deep), (-1, shallow) is the gap between two nets."""
    value = sum(sign * statistics.fmean(sample) for sign, sample in terms)
    if any(len(sample) < 2 for _, sample in terms):
        return Estimate(value, 0.0, 0.0)
    variances = [statistics.variance(sample) / len(sample) for _, sample in terms]
    total = sum(variances)
    if not total:
        return Estimate(value, 0.0, float("inf"))
    weights = [v**2 / (len(sample) - 1) for v, (_, sample) in zip(variances, terms, strict=True)]
    return Estimate(value, total**0.5, total**2 / sum(weights))


def holm(chances: Sequence[float]) -> list[float]:
    """The p-values of several tests, adjusted for the chance of a false alarm among all of them (Holm, 1979)."""
    adjusted, most = [1.0] * len(chances), 0.0
    for place, number in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        most = max(most, min(1.0, (len(chances) - place) * chances[number]))
        adjusted[number] = most
    return adjusted
