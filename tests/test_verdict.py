"""The verdict's rule: intervals worked out by hand, words that follow from them, and how often it errs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnet_lab.report.conditions import mixtures, resumed
from resnet_lab.report.intervals import combine, holm
from resnet_lab.report.results import Curve, Group, Result, Study, group
from resnet_lab.report.verdict import cure, margin_of, pairs, verdict

GUESSING = 95.0  # of ten classes, of which a guess errs in 90 %


def result(depth: int, shortcut: str, seed: int, error: float, margin: float | None, **facts: Any) -> Result:
    model = {"_target_": "resnet_lab.models.resnet_cifar", "depth": depth, "shortcut": shortcut}
    config = {"model": model, "experiment_name": "study", "seed": seed, "verdict": {"margin": margin}}
    record = {"config": config, "train_error": error, "data": {"classes": 10}} | facts
    curve = Curve([10, 20], [GUESSING, error], [GUESSING, error])
    directory = Path("study") / "net" / f"seed{seed}"
    return Result(directory, "completed", record=record, curve=curve)


def study(errors: dict[tuple[int, str], list[float]], margin: float | None = 1.0) -> Study:
    results = [
        result(depth, shortcut, seed, error, margin)
        for (depth, shortcut), values in errors.items()
        for seed, error in enumerate(values)
    ]
    return Study(results, group(results))


def test_the_interval_of_a_gap_is_welchs() -> None:
    gap = combine((1, [10, 12, 14]), (-1, [1, 2, 3]))
    # standard error sqrt(1/3 + 4/3) = 1.291, (5/3)**2 / (1/18 + 16/18) = 2.94 degrees of freedom, t = 3.22
    assert gap.value == 10
    assert gap.error == pytest.approx(1.2910, abs=1e-4)
    assert gap.degrees == pytest.approx(2.941, abs=1e-3)
    assert gap.interval == pytest.approx((5.84, 14.16), abs=0.01)
    assert combine((1, [3]), (-1, [1, 2])).interval is None
    assert combine((1, [3, 3]), (-1, [1, 1])).interval == (2, 2)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_degradation_cured() -> None:
    errors = {(20, "none"): [1, 2, 3], (56, "none"): [10, 12, 14], (20, "A"): [2, 2, 2], (56, "A"): [1, 1, 1]}
    first, plain, residual = verdict(study(errors))
    assert first == (
        "plain-56 +10.00 points (+5.84 to +14.16) against plain-20; "
        "resnet-56-A -1.00 points (-1.00 to -1.00) against resnet-20-A: "
        "degradation in the plain nets, cured by shortcuts."
    )
    assert plain == (
        "plain-56 +10.00 points (+5.84 to +14.16) against plain-20: degradation. "
        "plain-56 ends at 12.00 ± 2.00 % (n = 3), plain-20 ends at 2.00 ± 1.00 % (n = 3)."
    )
    assert "no degradation (below verdict.margin=1)" in residual


PLAIN = {(20, "none"): [1.0, 2.0, 3.0], (56, "none"): [21.0, 22.0, 23.0]}


@pytest.mark.parametrize(
    ("residual", "margin", "words"),
    [
        # a residual gap within chance is undecided, whatever its sign: once it was called cured
        (
            {20: [16.3, 16.5, 16.8], 56: [15.7, 16.7, 17.8]},
            1.0,
            "lessened by shortcuts, whether cured is undecided",
        ),
        ({20: [16.3, 16.5, 16.8], 56: [16.2, 16.5, 16.9]}, 1.0, "cured by shortcuts"),
        (
            {20: [16.3, 16.5, 16.8], 56: [16.2, 16.5, 16.9]},
            0.1,
            "lessened by shortcuts, whether cured is undecided",
        ),
        ({20: [16.3, 16.5, 16.8], 56: [16.2, 16.5, 16.9]}, None, "whether cured is undecided"),
        ({20: [1.0, 1.1, 1.2], 56: [4.0, 4.1, 4.2]}, 1.0, "lessened but not cured by shortcuts"),
        ({20: [1.0, 1.1, 1.2], 56: [41.0, 42.0, 43.0]}, 1.0, "not cured by shortcuts"),
        ({20: [1.0, 1.1, 1.2], 56: [0.0, 20.0, 40.0]}, 1.0, "cure undecided"),
        # a smaller gap than the margin is no cure where the plain nets have no larger one
        ({20: [1.0, 1.1, 1.2], 56: [1.5, 1.6, 1.7]}, 1.0, "cured by shortcuts"),
    ],
)
def test_cured_is_said_of_an_interval_below_the_margin_alone(
    residual: dict[int, list[float]], margin: float | None, words: str
) -> None:
    first = verdict(study(PLAIN | {(depth, "A"): values for depth, values in residual.items()}, margin))[0]
    assert first.endswith(f"{words}.")


@pytest.mark.parametrize("depths", [(20, 32), (32, 56)], ids=str)
def test_nothing_is_cured_where_a_residual_net_is_missing(depths: tuple[int, int]) -> None:
    errors = PLAIN | {(32, "none"): [1.0, 2.0, 3.0]}
    errors |= {(depth, "A"): [1.0, 1.1, 1.2] for depth in depths}
    assert verdict(study(errors, 1.0))[0].endswith("cure undecided.")


def test_without_an_interaction_nothing_is_cured() -> None:
    """A plain gap that is shown but small, and a residual gap below the margin, which may be as large."""
    errors = {(20, "none"): [1.0, 1.01, 1.02], (56, "none"): [1.5, 1.51, 1.52]}
    errors |= {(20, "A"): [1.0, 1.2, 1.4], (56, "A"): [1.2, 1.4, 1.6]}
    first = verdict(study(errors))[0]
    assert "degradation below the margin" not in first
    assert first.endswith("degradation in the plain nets, cure undecided.")


def test_runs_from_before_there_was_a_margin_have_that_of_their_experiment() -> None:
    old = result(20, "none", 0, 1.0, None)
    del old.config["verdict"]
    assert margin_of(group([old])[0]) is None
    old.config["experiment_name"] = "digits_degradation"
    assert margin_of(group([old])[0]) == 1.0
    old.config["experiment_name"] = "../../etc/passwd"
    assert margin_of(group([old])[0]) is None


def test_one_seed_has_effects_and_no_words() -> None:
    errors = {(20, "none"): [1.0], (56, "none"): [50.0], (20, "A"): [1.0], (56, "A"): [1.0]}
    first, *rest = verdict(study(errors))
    assert first == (
        "plain-56 +49.00 points against plain-20; resnet-56-A +0.00 points against resnet-20-A: "
        "undecided in the plain nets."
    )
    assert any(sentence.startswith("One seed proves nothing") for sentence in rest)
    assert any("one seed has no interval" in sentence for sentence in rest)


def test_a_net_that_never_left_guessing_is_named_apart() -> None:
    errors = {
        **{(20, "none"): [0.0, 0.1, 0.2], (44, "none"): [20.0, 21.0, 22.0]},
        **{(56, "none"): [60.0, 62.0, 89.5], (20, "A"): [0.0] * 3, (44, "A"): [0.0] * 3, (56, "A"): [0.0] * 3},
    }
    first, *rest = verdict(study(errors))
    assert first.startswith("plain-56 +60.90 points")
    assert first.endswith("degradation in the plain nets, cured by shortcuts.")
    assert "plain-56 did not start to train in 1 of 3 seeds." in rest
    (deepest,) = [pair for pair in pairs(study(errors)) if pair.deep.name == "plain-56"]
    assert deepest.gap.value == pytest.approx(60.9)  # of the two that trained


def test_a_residual_net_that_did_not_start_is_not_cured() -> None:
    errors = PLAIN | {(20, "A"): [1.0, 1.1, 1.2], (56, "A"): [1.0, 1.1, 89.5]}
    first = verdict(study(errors))[0]
    assert not first.endswith(", cured by shortcuts.")


def test_a_gap_that_is_chance_among_several_depths_is_undecided() -> None:
    """Its own interval is above zero, but one of three is, now and then."""
    errors = {(20, "none"): [1.0, 2.0, 3.0], (56, "none"): [3.5, 4.5, 5.5]}
    (alone,) = pairs(study(errors))
    assert alone.outcome == "Degradation"
    errors |= {(32, "none"): [1.0, 2.0, 3.1], (44, "none"): [1.0, 2.1, 3.0]}
    outcomes = {pair.deep.depth: pair.outcome for pair in pairs(study(errors))}
    assert outcomes == {32: "Undecided", 44: "Undecided", 56: "Undecided"}
    assert any("by Holm's method" in sentence for sentence in verdict(study(errors)))


def test_runs_of_several_processes_are_another_net() -> None:
    results = [result(20, "none", 0, 1.0, 1.0), result(20, "none", 1, 1.0, 1.0, processes=2)]
    results.append(result(56, "none", 0, 9.0, 1.0, processes=2))
    found = Study(results, group(results))
    assert [g.name for g in found.groups] == ["plain-20", "plain-20-2-processes", "plain-56-2-processes"]
    assert [(len(p.shallow.results), len(p.deep.results)) for p in pairs(found)] == [(1, 1)]


def test_runs_made_under_other_conditions_are_pooled_with_a_sentence() -> None:
    def made(seed: int, **facts: Any) -> Result:
        return result(20, "none", seed, 1.0, 1.0, **facts)

    results = [made(0, channels_last=True), made(1, channels_last=True), made(2, channels_last=False)]
    (sentence,) = mixtures(Study(results, group(results)))
    assert sentence == (
        "The runs were not all made under the same channels_last, which moves their digits: "
        "plain-20 seed 2: false; the other 2: true."
    )
    assert mixtures(Study(results[:2], group(results[:2]))) == []


def test_of_kernels_only_what_differs_is_told() -> None:
    kernels = {"cpu_capability": "AVX2", "onednn": "3.7"}
    results = [result(20, "none", seed, 1.0, 1.0, kernels=kernels) for seed in (0, 1)]
    results.append(result(20, "none", 2, 1.0, 1.0, kernels=kernels | {"cpu_capability": "AVX512"}))
    (sentence,) = mixtures(Study(results, group(results)))
    assert "plain-20 seed 2: cpu_capability='AVX512' (was 'AVX2'); the other 2: as most." in sentence


def test_a_run_that_was_resumed_elsewhere_is_marked() -> None:
    accepted = {"accepted_changes": ["threads=2 (was 1), from iteration 26 on"]}
    noted = {"accepted_changes": [], "earlier": [{"until": 5, "changes": ["git.commit='b' (was 'a')"]}]}
    results = [result(20, "none", 0, 1.0, 1.0, **accepted), result(20, "none", 1, 1.0, 1.0, **noted)]
    assert resumed(Study(results, group(results))) == [
        "plain-20 seed 0 was resumed under other conditions, which was accepted: "
        "threads=2 (was 1), from iteration 26 on.",
        "plain-20 seed 1 was resumed under another machine or code: git.commit='b' (was 'a').",
    ]
    assert resumed(study({(20, "none"): [1.0]})) == []


STUDIES = 400
# by simulation, in percent: degradation where there is none, cured where the residual net is worse by the margin
RATES = {(3, 1): (0.25, 1.75), (3, 3): (1.5, 0.25), (5, 1): (2.5, 1.75), (5, 3): (2.0, 0.0)}


def simulated(random: np.random.Generator, seeds: int, means: dict[tuple[int, str], float]) -> Study:
    groups = [
        Group(
            f"{shortcut}-{depth}",
            depth,
            shortcut,
            "[{}]",
            [
                Result(Path(), "completed", record={"train_error": error, "config": {"verdict": {"margin": 1.0}}})
                for error in random.normal(mean, 1.0, seeds)
            ],
        )
        for (depth, shortcut), mean in means.items()
    ]
    return Study([], groups)


def called_cured(found: Study) -> bool:
    compared = pairs(found)
    plain = [pair for pair in compared if pair.shallow.plain]
    return cure(plain, [pair for pair in compared if not pair.shallow.plain]) == "cured by shortcuts"


@pytest.mark.parametrize(("seeds", "depths"), RATES)
def test_how_often_the_rule_errs(seeds: int, depths: int) -> None:
    """Below the nominal 2.5 %; the figures stand in resnet_lab.report's docstring."""
    random = np.random.default_rng(0)
    deeper = (32, 44, 56)[-depths:]
    null = {(20, "none"): 20.0} | {(depth, "none"): 20.0 for depth in deeper}
    worse = {(20, "none"): 20.0, (20, "A"): 20.0}
    worse |= {(depth, kind): {"none": 40.0, "A": 21.0}[kind] for depth in deeper for kind in ("none", "A")}
    alarms = sum(any(p.degraded for p in pairs(simulated(random, seeds, null))) for _ in range(STUDIES))
    cures = sum(called_cured(simulated(random, seeds, worse)) for _ in range(STUDIES))
    assert (100 * alarms / STUDIES, 100 * cures / STUDIES) == RATES[seeds, depths]
