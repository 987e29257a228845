"""The claims of an experiment, judged: effects with their intervals first, words after.

Every claim stands alone, with a two-sided interval at 95 % over the seeds, not adjusted for their number.

- *shown*: the whole interval is on the claim's side of its threshold;
- *not shown*: the whole interval is on the other side;
- *undecided*: neither, or a net has fewer than two seeds, or no such runs.

Values that are only known to be large, those of nets that never got there, have no mean: Mann and Whitney's test
of their ranks takes the interval's place, at a one-sided 2.5 %.

A trend is shown where Kendall's rank correlation has the claim's sign and a one-sided p-value below 2.5 %, and not
shown where it has the other one. Errors are those of runs that left guessing; how many did not is said.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from resnet_lab.checks import UserError
from resnet_lab.config.compose import CONF
from resnet_lab.report.intervals import CONFIDENCE, Estimate, combine
from resnet_lab.report.results import Curve, Group, Result, Study
from resnet_lab.runs.claims import ITERATIONS, Claim, Measure, read_claims
from resnet_lab.runs.identity import sanitize
from resnet_lab.runs.validity import is_number

LEVEL = (1 - CONFIDENCE) / 2
MOST_ORDERS = 10_000  # that are gone through one by one
OUTCOMES = ("shown", "not shown", "undecided")


class Values(NamedTuple):
    """One value per seed of one net."""

    name: str
    found: list[float]
    censored: int = 0  # of those how many are only known to be at least as large
    not_started: int = 0


class Judged(NamedTuple):
    claim: Claim
    outcome: str
    effect: str

    def sentence(self) -> str:
        return f"{self.outcome.capitalize()}: {self.claim.say}. {self.effect}"


class Unclear(Exception):
    """Why a claim cannot be judged."""


def judged(study: Study) -> list[Judged]:
    return [judge(study, claim) for claim in claims_of(study)]


def claims_of(study: Study) -> list[Claim]:
    """Claims of the runs' configs, in today's words; none where the runs disagree."""
    asked = [r.config["verdict"].get("claims") for r in study.results if r.config.get("verdict")]
    try:
        found = [{claim.name: claim for claim in read_claims(claims)} for claims in asked]
    except UserError:  # a record that was edited
        return []
    if not found or any(wordless(claims) != wordless(found[0]) for claims in found):
        return []
    return list(reworded(found[0], study.results[0].experiment).values())


def wordless(claims: dict[str, Claim]) -> dict[str, Claim]:
    return {name: claim._replace(say="") for name, claim in claims.items()}


def reworded(claims: dict[str, Claim], experiment: str) -> dict[str, Claim]:
    """The claims as conf/experiment says them, where it claims the same; a sentence may be mended afterwards."""
    path = Path(CONF, "experiment", f"{sanitize(experiment)}.yaml")
    block = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}
    verdict = block.get("verdict") if isinstance(block, dict) else None
    said = {claim.name: claim for claim in read_claims((verdict or {}).get("claims"))}
    return said if wordless(said) == wordless(claims) else claims


def headline(found: Sequence[Judged]) -> str:
    """The number of claims with each outcome."""
    claims = f"{len(found)} claim{'s' * (len(found) > 1)}"
    return f"Of {claims}: {counts(found)}."


def counts(found: Sequence[Judged]) -> str:
    outcomes = [one.outcome for one in found]
    return ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in OUTCOMES if outcome in outcomes)


def judge(study: Study, claim: Claim) -> Judged:
    try:
        outcome, effect = trend(study, claim) if claim.over else difference(study, claim)
    except (Unclear, ArithmeticError) as error:  # or values too large or too small to compute with
        return Judged(claim, "undecided", f"{str(error)[:1].upper()}{str(error)[1:]}.")
    return Judged(claim, outcome, effect)


def difference(study: Study, claim: Claim) -> tuple[str, str]:
    of = one_net(study, claim.of, claim.measure)
    if isinstance(claim.than, dict):
        than = one_net(study, claim.than, claim.measure)
        if of.censored or than.censored:
            return by_ranks(claim, of, than)
        gap = combine((1, of.found), (-1, than.found))
        nets, effect = [of, than], f"{of.name} {amount(gap, claim.measure, signed=True)} against {than.name}"
    else:
        gap = combine((1, of.found))
        nets, effect = [of], f"{of.name}: {amount(gap, claim.measure, signed=False)}"
        gap = Estimate(gap.value - claim.than, gap.error, gap.degrees)
    remarks = [remark for net in nets for remark in reservations(net)]
    outcome = outcome_of(gap.interval, claim)
    if not is_bound(claim, nets, outcome, gap.value):
        outcome, remarks = "undecided", [*remarks, "which could change it"]
    means = ", ".join(f"{net.name} {spread(net, claim.measure)}" for net in nets)
    words = f" ({'; '.join(remarks)})" if remarks else ""
    return outcome, f"{claim.measure.told}: {effect}{words}. {means}."


def outcome_of(interval: tuple[float, float] | None, claim: Claim) -> str:
    if interval is None:
        return "undecided"
    low, high = interval if claim.how != "less" else (-interval[1], -interval[0])
    if claim.how == "alike":
        inside, outside = -claim.by < low and high < claim.by, low > claim.by or high < -claim.by
    else:
        inside, outside = low > claim.by, high < claim.by
    return "shown" if inside else "not shown" if outside else "undecided"


def by_ranks(claim: Claim, of: Values, than: Values) -> tuple[str, str]:
    """Mann and Whitney's test, for values of which some are only known to be large: they have no mean."""
    sides = {"more": ("greater", "less"), "less": ("less", "greater")}.get(claim.how, ())
    chances = [chance_of_ranks(of.found, than.found, side) for side in sides]
    outcome = outcome_of_chances(*chances) if chances and not claim.by else "undecided"
    remarks = [*reservations(of), *reservations(than)]
    if not is_bound(claim, [of, than], outcome, 0.0):
        outcome, remarks = "undecided", [*remarks, "which could change it"]
    test = f", Mann and Whitney's one-sided p {p(chances[0])}" if chances else ""
    nets = f"{of.name} {spread(of, claim.measure)}, {than.name} {spread(than, claim.measure)}"
    return outcome, f"{claim.measure.told}: {of.name} against {than.name}{test} ({'; '.join(remarks)}). {nets}."


def chance_of_ranks(of: Sequence[float], than: Sequence[float], side: str) -> float:
    """The one-sided p-value of the sum of ranks: exact, ties included, where there are not too many orders."""
    from scipy.stats import mannwhitneyu, rankdata  # takes a while

    if math.comb(len(of) + len(than), len(of)) > MOST_ORDERS:
        return float(mannwhitneyu(of, than, alternative=side, method="asymptotic").pvalue)
    ranks: list[float] = rankdata([*of, *than]).tolist()
    sign = 1 if side == "greater" else -1
    sums = [sign * sum(some) for some in itertools.combinations(ranks, len(of))]
    return sum(one >= sign * sum(ranks[: len(of)]) for one in sums) / len(sums)


def outcome_of_chances(claimed: float, opposite: float) -> str:
    """The outcome by the one-sided p-values of what is claimed and of its opposite."""
    return "shown" if claimed < LEVEL else "not shown" if opposite < LEVEL else "undecided"


def is_bound(claim: Claim, nets: Sequence[Values], outcome: str, gap: float) -> bool:
    """Whether the outcome holds whatever the values are that are only known to be large, or left out as such."""
    of, than = (sum(net.censored + net.not_started for net in some) for some in (nets[:1], nets[1:]))
    if not of and not than:
        return True
    if outcome == "undecided" or (claim.how, outcome) == ("alike", "shown"):
        return False
    # whether the outcome is that the first is the larger
    larger = gap > 0 if claim.how == "alike" else (claim.how == "more") == (outcome == "shown")
    return not (than if larger else of)


def trend(study: Study, claim: Claim) -> tuple[str, str]:
    """Kendall's tau-b between a setting and the measure, over all seeds of all nets."""
    from scipy.stats import kendalltau  # takes a while

    groups = fitting(study, claim)
    found = [(group.settings[claim.over], values_of(group, claim.measure)) for group in groups]
    xs = [x for x, values in found for _ in values.found]
    ys = [y for _, values in found for y in values.found]
    if not all(is_number(x) for x in xs):
        raise Unclear(f"{claim.over} is not a number, and has no order")
    if len({x for x, _ in found}) < len(found):
        raise Unclear(f"several nets have the same {claim.over}: {', '.join(group.name for group in groups)}")
    if len(set(xs)) < 3:
        raise Unclear(f"there are fewer than three values of {claim.over} to see a trend in")
    tau, rising = (float(value) for value in kendalltau(xs, ys, alternative="greater"))
    falling = float(kendalltau(xs, ys, alternative="less").pvalue)  # not 1 - rising, where p is exact
    if math.isnan(tau):  # all values are the same
        tau, rising, falling = 0.0, 0.5, 0.5
    claimed, opposite = (rising, falling) if claim.how == "rising" else (falling, rising)
    means = ", ".join(f"{net.name} {spread(net, claim.measure)}" for _, net in sorted(found, key=lambda f: f[0]))
    remarks = [remark for _, net in found for remark in reservations(net)]
    words = f" ({'; '.join(remarks)})" if remarks else ""
    effect = f"{claim.measure.told}: Kendall's tau {tau:+.2f} over {len(xs)} runs, one-sided p {p(claimed)}{words}"
    return outcome_of_chances(claimed, opposite), f"{effect}. {means}."


def fitting(study: Study, claim: Claim) -> list[Group]:
    return [g for g in study.groups if claim.over in g.settings and fits(g, claim.of) and g.completed]


def p(chance: float) -> str:
    return "below 0.001" if chance < 0.001 else f"{chance:.3f}"


def one_net(study: Study, settings: dict[str, Any], measure: Measure) -> Values:
    groups = [group for group in study.groups if group.config and fits(group, settings)]
    if len(groups) != 1:
        said = ", ".join(f"{key} {value}" for key, value in settings.items())
        several = f"several nets have {said}: {', '.join(group.name for group in groups)}"
        raise Unclear(several if groups else f"there is no net with {said}")
    return values_of(groups[0], measure)


def fits(group: Group, settings: dict[str, Any]) -> bool:
    return all(key in group.settings and group.settings[key] == value for key, value in settings.items())


def values_of(group: Group, measure: Measure) -> Values:
    """One value per completed run.

    Raises:
        Unclear: there is none.
    """
    runs = [run for run in group.completed if run.started] if measure.is_error else group.completed
    not_started = len(group.completed) - len(runs)
    if measure.name == ITERATIONS:
        runs = [run for run in runs if run.curve.steps]  # a net at initialization has none
        reached = [first_below(run.curve, measure.threshold) for run in runs]
        last = [run.curve.steps[-1] for run in runs]
        found = [step if step is not None else end for step, end in zip(reached, last, strict=True)]
        values = Values(group.name, [float(step) for step in found], reached.count(None))
    elif measure.is_error:
        found_errors = [float(run.record[measure.name]) for run in runs if measure.name in run.record]
        values = Values(group.name, found_errors, not_started=not_started)
    else:
        values = Values(group.name, [taken(run, measure) for run in runs])
    if not values.found:
        raise Unclear(
            f"no run of {group.name} has {measure.told}" + (" that started to train" * bool(not_started))
        )
    return values


def first_below(curve: Curve, threshold: float) -> int | None:
    """The first iteration from which the running training error stays below the threshold."""
    above = [i for i, error in enumerate(curve.train_error) if error >= threshold]
    after = above[-1] + 1 if above else 0
    return curve.steps[after] if after < len(curve.steps) else None


def taken(run: Result, measure: Measure) -> float:
    """A number from the rows of the analysis on the run's weights."""
    rows = [
        found.rows for found in run.analyses if (found.name, found.settings["at"]) == (measure.name, measure.at)
    ]
    if not rows:
        raise Unclear(
            f"{run.directory.parent.name}, seed {run.seed} has no analysis {measure.name} at {measure.at}"
        )
    if len(rows) > 1:
        raise Unclear(f"{run.directory.parent.name} has {measure.name} with several settings")
    if measure.column not in rows[0][0]:
        raise Unclear(f"{measure.name} has no column {measure.column}")
    values = [row[measure.column] for row in rows[0]]
    if not all(is_number(value) and math.isfinite(value) for value in values):
        raise Unclear(f"{measure.column} of {measure.name} is not a finite number in every row")
    return TAKE[measure.take](values)


def growth(values: Sequence[float]) -> float:
    """The least-squares slope of log10 of the values against their number."""
    if len(values) < 2 or min(values) <= 0:
        raise Unclear("there is no growth of fewer than two values, or of values that are not all above 0")
    return statistics.linear_regression(range(len(values)), [math.log10(value) for value in values]).slope


TAKE: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "least": min,
    "most": max,
    "total": math.fsum,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "growth": growth,
}


def reservations(net: Values) -> list[str]:
    runs = len(net.found)
    found = [f"{net.censored} of {runs} seeds of {net.name} never got there"] if net.censored else []
    if net.not_started:
        found.append(f"{net.name} did not start to train in {net.not_started} of {runs + net.not_started} seeds")
    return found + ([f"one seed of {net.name} has no interval"] if runs == 1 else [])


def amount(estimate: Estimate, measure: Measure, signed: bool) -> str:
    sign = "+" if signed else ""
    form, unit = (f"{sign}.2f", " points" if signed else " %") if measure.is_error else (f"{sign}.3g", "")
    interval = estimate.interval
    words = f" ({interval[0]:{form}} to {interval[1]:{form}})" if interval else ""
    return f"{estimate.value:{form}}{unit}{words}"


def spread(net: Values, measure: Measure) -> str:
    values = net.found
    form, unit = (".2f", " %") if measure.is_error else (".3g", "")
    deviation = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 and not net.censored else ""
    least = "at least " if net.censored else ""
    return f"{least}{statistics.fmean(values):{form}}{deviation}{unit} (n = {len(values)})"
