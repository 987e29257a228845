"""Claims of an experiment: outcomes worked out by hand, and what cannot be judged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resnet_lab.checks import UserError
from resnet_lab.report.claims import first_below, growth, judged
from resnet_lab.report.results import Curve, Result, Study, group
from resnet_lab.report.verdict import verdict
from resnet_lab.runs.claims import read_claims
from resnet_lab.runs.rows import Analysis

PLAIN, RESIDUAL = {"model.shortcut": "none"}, {"model.shortcut": "A"}
WORSE = {"say": "deep is worse", "measure": "train_error", "of": {"model.depth": 56}, "is": "more"}


def study(claim: dict[str, Any], nets: dict[tuple[int, str], list[float]], **facts: Any) -> Study:
    """Runs of nets with these final training errors, and a config with one claim."""
    results = []
    for (depth, shortcut), errors in nets.items():
        for seed, error in enumerate(errors):
            model = {"_target_": "resnet_lab.models.resnet_cifar", "depth": depth, "shortcut": shortcut}
            config = {
                "model": model,
                "experiment_name": "study",
                "seed": seed,
                "verdict": {"claims": {"a": claim}},
            }
            record = {"config": config, "train_error": error, "data": {"classes": 10}}
            curve = Curve([10, 20], [50.0, error], [50.0, error])
            folder = Path("study", f"{depth}-{shortcut}", f"seed{seed}")
            results.append(Result(folder, "completed", record=record, curve=curve, **facts))
    return Study(results, group(results))


def outcome(claim: dict[str, Any], nets: dict[tuple[int, str], list[float]], **facts: Any) -> tuple[str, str]:
    (found,) = judged(study(claim, nets, **facts))
    return found.outcome, found.effect


# the gap is 10, its interval by Welch 5.84 to 14.16
NETS = {(56, "none"): [10.0, 12.0, 14.0], (20, "none"): [1.0, 2.0, 3.0]}


@pytest.mark.parametrize(
    ("how", "by", "expected"),
    [
        ("more", 0, "shown"),
        ("more", 5, "shown"),
        ("more", 6, "undecided"),
        ("more", 15, "not shown"),
        ("less", 0, "not shown"),
        ("alike", 5, "not shown"),
        ("alike", 10, "undecided"),
        ("alike", 15, "shown"),
    ],
)
def test_a_claim_is_judged_by_the_whole_interval(how: str, by: float, expected: str) -> None:
    claim = WORSE | {"is": how, "by": by, "than": {"model.depth": 20}}
    found, effect = outcome(claim, NETS)
    assert found == expected
    assert "plain-56 +10.00 points (+5.84 to +14.16) against plain-20" in effect


def test_a_number_to_compare_with() -> None:
    # 12 with standard error 2 / sqrt(3) and t = 4.30
    found, effect = outcome(WORSE | {"than": 7}, NETS)
    assert (found, "plain-56: 12.00 % (7.03 to 16.97)" in effect) == ("shown", True)
    assert outcome(WORSE | {"than": 8}, NETS)[0] == "undecided"
    assert outcome(WORSE | {"than": 17}, NETS)[0] == "not shown"


@pytest.mark.parametrize(
    ("claim", "reason"),
    [
        (WORSE | {"of": {"model.depth": 10**400}}, "There is no net with model.depth 1"),
        (WORSE | {"of": {"model.depth": 44}}, "There is no net with model.depth 44"),
        (WORSE | {"of": PLAIN}, "Several nets have model.shortcut none: plain-20, plain-56"),
        (WORSE | {"of": {"model.depht": 56}}, "There is no net with model.depht 56"),
        (WORSE | {"measure": {"responses": {"at": "last", "column": "std", "take": "mean"}}}, "has no analysis"),
    ],
)
def test_what_cannot_be_judged_is_undecided(claim: dict[str, Any], reason: str) -> None:
    found, effect = outcome(claim | {"than": 1}, NETS)
    assert found == "undecided"
    assert reason in effect


def test_one_seed_decides_nothing() -> None:
    found, effect = outcome(WORSE | {"than": 1}, {(56, "none"): [50.0]})
    assert (found, "one seed of plain-56 has no interval" in effect) == ("undecided", True)


def test_trends_by_rank() -> None:
    rising = {"say": "it rises", "measure": "train_error", "of": PLAIN, "over": "model.depth", "is": "rising"}
    nets = {(20, "none"): [1.0, 2.0], (32, "none"): [3.0, 4.0], (44, "none"): [5.0, 6.0], (20, "A"): [70.0, 80.0]}
    found, effect = outcome(rising, nets)
    # of 15 pairs 12 rise and 3 have the same depth: 12 / sqrt(12 * 15)
    assert (found, "Kendall's tau +0.89 over 6 runs" in effect) == ("shown", True)
    assert "one-sided p 0.0" in effect
    found, effect = outcome(rising | {"is": "falling"}, nets)
    assert (found, "one-sided p 0.9" in effect) == ("not shown", True)
    level = {(20, "none"): [1.0, 1.0], (32, "none"): [1.0, 1.0], (44, "none"): [1.0, 1.0]}
    assert outcome(rising, level)[0] == "undecided"
    assert "fewer than three values" in outcome(rising, NETS)[1]


def test_iterations_until_the_error_stays_below() -> None:
    curve = Curve([10, 20, 30, 40], [50, 5, 12, 8], [0, 0, 0, 0])
    assert [first_below(curve, at) for at in (60, 51, 50, 12.5, 12, 8)] == [10, 10, 20, 20, 40, None]


def test_a_net_that_never_gets_there_counts_for_no_less_than_it_is_known_to() -> None:
    slower = {"say": "slower", "measure": {"iterations_below": 5}, "of": {"model.depth": 56}, "is": "more"}
    nets = {(56, "none"): [6.0, 7.0], (20, "none"): [1.0, 2.0]}
    # both of them are known to need 20 at least, of which the other needs no more
    assert outcome(slower | {"than": 10}, nets)[0] == "shown"
    assert outcome(slower | {"is": "less", "than": 30}, nets)[0] == "undecided"
    assert "2 of 2 seeds of plain-56 never got there" in outcome(slower | {"than": 10}, nets)[1]


def test_of_nets_that_never_get_there_ranks_decide() -> None:
    slower = {"say": "slower", "measure": {"iterations_below": 5}, "of": {"model.depth": 56}, "is": "more"}
    slower |= {"than": {"model.depth": 20}}
    nets = {(56, "none"): [6.0] * 4, (20, "none"): [1.0, 2.0, 1.0, 2.0]}
    found, effect = outcome(slower, {**nets, (20, "none"): [51.0, 1.0, 2.0, 3.0]})
    assert found == "undecided", "one of the others never got there, either"
    # of 20 and 20 nothing is known but that all of them are as large, or larger
    assert "plain-56 at least 20 (n = 4)" in effect
    whole = study(slower, nets)
    fast = [
        replace(r, curve=Curve([10, 20], [1.0, 1.0], [1.0, 1.0]))
        for r in whole.results
        if "20-" in str(r.directory)
    ]
    mixed = [r for r in whole.results if "56-" in str(r.directory)] + fast
    (judgement,) = judged(Study(mixed, group(mixed)))
    assert judgement.outcome == "shown"  # one order of 70
    assert "one-sided p 0.014" in judgement.effect
    assert "plain-56 at least 20 (n = 4), plain-20 10 ± 0 (n = 4)" in judgement.effect
    fewer = mixed[1:4] + mixed[5:]
    (judgement,) = judged(Study(fewer, group(fewer)))
    assert judgement.outcome == "undecided"  # three against three: one order of 20


@pytest.mark.parametrize("how", ["less", "more", "alike"])
def test_seeds_that_never_started_are_not_left_out_in_a_nets_favour(how: str) -> None:
    claim = {"say": "a", "measure": "train_error", "of": {"model.depth": 56}, "is": how, "by": 0.5, "than": 10}
    whole = study(claim, {(56, "none"): [1.0, 1.1, 1.2, 90.0]})
    last = whole.results[-1]
    stuck = [*whole.results[:-1], replace(last, curve=Curve([10, 20], [90.0, 90.0], [90.0, 90.0]))]
    (judgement,) = judged(Study(stuck, group(stuck)))
    assert judgement.outcome == "undecided", "the fourth could turn it"
    high = study(claim, {(56, "none"): [21.0, 21.1, 21.2, 90.0]})
    stuck = [*high.results[:-1], replace(high.results[-1], curve=last.curve._replace(train_error=[90.0, 90.0]))]
    (judgement,) = judged(Study(stuck, group(stuck)))
    assert judgement.outcome == {"less": "not shown", "more": "shown", "alike": "not shown"}[how]


def test_a_trend_is_over_one_net_for_each_value() -> None:
    rising = {"say": "it rises", "measure": "train_error", "over": "model.depth", "is": "rising"}
    found, effect = outcome(rising, {(d, s): [float(d), d + 1.0] for d in (20, 32, 44) for s in ("none", "A")})
    assert found == "undecided"
    assert effect.startswith("Several nets have the same model.depth: ")


def test_values_beyond_computing_are_undecided() -> None:
    analyses = [Analysis("signals", {"at": "last"}, {}, [{"layer": 1, "norm": 1e300}])]
    measure = {"signals": {"at": "last", "column": "norm", "take": "mean"}}
    nets = study(WORSE | {"measure": measure, "than": 1}, NETS, analyses=analyses)
    huge = [Analysis("signals", {"at": "last"}, {}, [{"layer": 1, "norm": -1e300}])]
    mixed = [replace(r, analyses=huge) if r.seed == "0" else r for r in nets.results]
    (judgement,) = judged(Study(mixed, group(mixed)))
    assert judgement.outcome == "undecided"


def test_numbers_from_an_analysis() -> None:
    rows = [{"layer": 1, "norm": 1.0}, {"layer": 2, "norm": 10.0}, {"layer": 3, "norm": 100.0}]
    analyses = [Analysis("signals", {"at": "last"}, {}, rows)]
    for take, than in {
        "mean": 37,
        "median": 10,
        "least": 1,
        "most": 100,
        "first": 1,
        "last": 100,
        "growth": 1,
    }.items():
        measure = {"signals": {"at": "last", "column": "norm", "take": take}}
        claim = WORSE | {"measure": measure, "is": "alike", "by": 1e-9, "than": than}
        assert outcome(claim, NETS, analyses=analyses)[0] == "shown", take
    assert growth([100, 10, 1]) == pytest.approx(-1)


@pytest.mark.parametrize("value", ["conv1", float("nan"), float("inf")])
def test_what_is_not_a_number_decides_nothing(value: Any) -> None:
    analyses = [Analysis("signals", {"at": "last"}, {}, [{"layer": 1, "norm": 1.0}, {"layer": 2, "norm": value}])]
    measure = {"signals": {"at": "last", "column": "norm", "take": "mean"}}
    found, effect = outcome(WORSE | {"measure": measure, "than": 1}, NETS, analyses=analyses)
    assert (found, effect) == ("undecided", "Norm of signals is not a finite number in every row.")


def test_words_have_no_order() -> None:
    rising = {"say": "it rises", "measure": "train_error", "over": "model.shortcut", "is": "rising"}
    assert outcome(rising, NETS) == ("undecided", "Model.shortcut is not a number, and has no order.")


def test_claims_are_the_verdict() -> None:
    first, sentence, *_ = verdict(study(WORSE | {"than": 7}, NETS))
    assert first == "Of 1 claim: 1 shown."
    assert sentence.startswith("Shown: deep is worse. train error: plain-56: 12.00 %")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is": "bigger"}, "a.is must be one of more, less, alike; got 'bigger'"),
        ({"is": "alike"}, "a.by must be a number, 0 or more, and above 0 with is: alike"),
        ({"than": "plain-20"}, "a.than must be settings of nets"),
        ({"measure": "error"}, "a.measure must be one of train_error"),
        ({"measure": {"responses": {"at": "last", "column": "std"}}}, "must have at, column and take"),
        ({"measure": {"responses": {"at": "last", "column": "std", "take": "sum"}}}, "take must be one of mean"),
        ({"of": 56}, "a.of must be settings of nets"),
        ({"says": "x"}, "a.says is not a setting here; did you mean"),
        ({"say": ""}, "a.say must be a sentence"),
        ({"than": 10**400}, "a.than must be settings of nets"),
        ({"by": 10**400}, "a.by must be a number"),
        ({"over": "model.depth", "is": "rising", "by": 1}, "a.over must be one setting"),
    ],
)
def test_a_claim_that_says_too_little_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        read_claims({"a": WORSE | {"than": 1} | change})


def test_a_trend_over_one_seed_per_value_is_judged_by_the_exact_chance() -> None:
    falling = {"say": "it falls", "measure": "train_error", "over": "model.depth", "of": PLAIN, "is": "falling"}
    nets = {(depth, "none"): [error] for depth, error in ((20, 3.0), (32, 2.0), (56, 1.0))}
    for claim in (falling, falling | {"is": "rising"}):
        found, effect = outcome(claim, nets)
        assert found == "undecided", effect
    assert "one-sided p 0.167" in outcome(falling, nets)[1]  # one order of six
    nets |= {(44, "none"): [1.5], (110, "none"): [0.5]}
    assert outcome(falling, nets)[0] == "shown"  # one of 120


def test_iterations_of_nets_that_were_never_trained_are_unclear() -> None:
    slow = {"say": "slower", "measure": {"iterations_below": 10}, "of": {"model.depth": 56}, "is": "more"}
    whole = study(slow | {"than": {"model.depth": 20}}, NETS)
    untrained = [replace(result, curve=Curve([], [], [])) for result in whole.results]
    (found,) = judged(Study(untrained, group(untrained)))
    assert found.outcome == "undecided"
