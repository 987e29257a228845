from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, OneCycleLR

from resnet_lab.config.compose import CONF
from resnet_lab.data.streams import generator
from resnet_lab.schedule import Chain, CosineWarmup, MultiStep, MultiStepWarmup, Plateau

PAPER = [32000, 48000]
Make = Callable[[Optimizer], LRScheduler]


def optimizer() -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)


def rates(make: Make, wanted: list[int], errors: Callable[[int], float] = lambda k: 0.0) -> dict[int, float]:
    """The learning rate of each wanted iteration, resumed from a saved state before each of them."""
    sgd = optimizer()
    schedule = make(sgd)
    found = {}
    for k in range(max(wanted) + 1):
        if k in wanted:
            saved = (sgd.state_dict(), schedule.state_dict())
            sgd = optimizer()
            schedule = make(sgd)
            sgd.load_state_dict(saved[0])
            schedule.load_state_dict(saved[1])
            found[k] = sgd.param_groups[0]["lr"]
        sgd.step()
        if isinstance(schedule, MultiStepWarmup) and schedule.warming:
            schedule.observe(torch.tensor(errors(k)))
        schedule.step()
    return found


def test_the_papers_milestones() -> None:
    found = rates(partial(MultiStep, milestones=PAPER), [0, 31999, 32000, 47999, 48000, 63999])
    expected = {0: 0.1, 31999: 0.1, 32000: 0.01, 47999: 0.01, 48000: 0.001, 63999: 0.001}
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_warm_up_ends_with_the_first_window_below_80() -> None:
    # windows of 50: the eighth, iterations 350 to 399, is the first with a mean below 80
    make = partial(MultiStepWarmup, milestones=PAPER)
    found = rates(make, [0, 349, 375, 399, 400, 31999, 32000, 48000], lambda k: 79.0 if k >= 350 else 90.0)
    expected = {0: 0.01, 349: 0.01, 375: 0.01, 399: 0.01, 400: 0.1, 31999: 0.1, 32000: 0.01, 48000: 0.001}
    assert found == pytest.approx(expected, rel=1e-12)


def test_exactly_80_is_not_below_80() -> None:
    found = rates(partial(MultiStepWarmup, milestones=[500], window=10), [100], lambda k: 80.0)
    assert found == {100: 0.01}


def test_a_warm_up_does_not_come_back() -> None:
    make = partial(MultiStepWarmup, milestones=[500], window=10)
    found = rates(make, [9, 10, 100], lambda k: 0.0 if k < 10 else 95.0)
    assert found == {9: 0.01, 10: 0.1, 100: 0.1}


def test_plateau_waits_for_its_patience() -> None:
    sgd = optimizer()
    schedule = Plateau(sgd, patience=2)
    seen = []
    for error in (50.0, 40.0, 40.0, 40.0, 40.0):
        schedule.step(error)
        seen.append(sgd.param_groups[0]["lr"])
    assert seen == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01])


def test_plateau_takes_less_than_its_threshold_for_none() -> None:
    for lower, rate in ((38.1, 0.01), (37.9, 0.1)):  # of 40, a twentieth is 2
        sgd = optimizer()
        schedule = Plateau(sgd, patience=0, threshold=0.05)
        for error in (40.0, lower):
            schedule.step(error)
        assert sgd.param_groups[0]["lr"] == pytest.approx(rate)


# Invented training errors in percent, s epochs after the start at rate 0.1: as steep as curves of ImageNet are at
# first, and more or less flat later.
FIRST_RATE = {
    "saturates": lambda s: 42 + 50 * 2.718 ** (-s / 6),
    "power": lambda s: 38 + 45 * s**-0.6,
    "creeps": lambda s: 30 + 55 * s**-0.35,
}
LATER_RATES = [lambda s: 30 + 6 * s**-0.6, lambda s: 27 + 2 * s**-0.6, lambda s: 26.5]
NOISE = 0.05  # points, the standard deviation


def drops(curve: str, seed: int, **settings: float) -> list[int]:
    """The epochs, of 120, after which a Plateau divides the rate."""
    sgd = optimizer()
    schedule = Plateau(sgd, **settings)
    noise = torch.randn(121, generator=generator(curve, seed)) * NOISE
    found: list[int] = []
    for epoch in range(1, 121):
        here = [FIRST_RATE[curve], *LATER_RATES][min(len(found), len(LATER_RATES))]
        before = sgd.param_groups[0]["lr"]
        schedule.step(here(epoch - found[-1] if found else epoch) + noise[epoch].item())
        found += [epoch] if sgd.param_groups[0]["lr"] < before else []
    return found


@pytest.mark.parametrize("curve", FIRST_RATE)
def test_the_plateau_rule_fires_near_the_drops_of_figure_4(curve: str) -> None:
    """Epochs 30 and 60 of 120, by the settings of the YAML file, in each of 20 noisy repetitions."""
    chosen = OmegaConf.load(Path(CONF) / "schedule/plateau.yaml")
    settings = {key: chosen[key] for key in ("patience", "threshold")}
    for seed in range(20):
        first, second, *_ = drops(curve, seed, **settings)
        assert 25 <= first <= 45
        assert 45 <= second <= 65


def test_torchs_own_threshold_takes_noise_for_progress() -> None:
    found = [drops("power", seed, patience=5, threshold=1e-4) for seed in range(20)]
    assert not any(epochs and epochs[0] < 70 for epochs in found)
    assert sum(not epochs for epochs in found) >= 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(MultiStep, milestones=[5, 3]), r"milestones must be positive .* got \[5, 3\]"),
        (partial(MultiStep, milestones=[0, 3]), r"milestones must be positive .* got \[0, 3\]"),
        (partial(MultiStep, milestones=[3], gamma=0.0), r"gamma must be in \(0, 1\], got 0.0"),
        (partial(MultiStepWarmup, milestones=[3], warmup_lr=-1), "warmup_lr must be positive, got -1"),
        (partial(MultiStepWarmup, milestones=[3], until_error=101), "until_error must be .* got 101"),
        (partial(MultiStepWarmup, milestones=[3], window=0), "window must be a positive integer, got 0"),
        (partial(Plateau, threshold=1), r"threshold must be in \[0, 1\), got 1"),
        (partial(Plateau, patience=-1), "patience must be zero or a positive integer, got -1"),
        (
            partial(Plateau, monitor="test/error"),
            "monitor must be train/error or val/error, got 'test/error'",
        ),
    ],
)
def test_errors(make: Make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(optimizer())


def test_a_cosine_with_a_warmup_rises_in_a_line_and_falls_to_the_least() -> None:
    found = rates(partial(CosineWarmup, iterations=110, warmup=10, min_lr=0.01), [0, 4, 9, 10, 60, 110])
    expected = {0: 0.01, 4: 0.05, 9: 0.1, 10: 0.1, 60: 0.055, 110: 0.01}
    assert found == pytest.approx(expected)


def test_one_cycle_resumes_and_lasts_as_many_iterations_as_there_are() -> None:
    make = partial(OneCycleLR, max_lr=0.1, total_steps=50)
    resumed = rates(make, list(range(50)))
    sgd = optimizer()
    schedule = make(sgd)
    for k in range(50):
        assert resumed[k] == sgd.param_groups[0]["lr"]
        sgd.step()
        schedule.step()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"warmup": 10}, "warmup must be below the 10 iterations, got 10"),
        ({"warmup": -1}, "warmup"),
        ({"min_lr": -0.1}, "min_lr must be 0 or more"),
        ({"min_lr": float("nan")}, "min_lr must be 0 or more"),
    ],
)
def test_an_impossible_cosine_is_refused(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        CosineWarmup(optimizer(), 10, **settings)  # type: ignore[arg-type]


def test_each_schedule_of_a_chain_counts_from_its_own_beginning_resumed_anywhere() -> None:
    parts = [
        partial(LinearLR, start_factor=0.1, total_iters=10),
        partial(MultiStep, milestones=[5]),
        partial(CosineWarmup, iterations=10),
    ]
    found = rates(partial(Chain, schedules=parts, milestones=[10, 20]), list(range(31)))
    expected = {k: 0.1 * (0.1 + 0.09 * k) for k in range(10)}
    expected |= {k: 0.1 if k < 15 else 0.01 for k in range(10, 20)}
    expected |= {20: 0.1, 25: 0.05, 30: 0.0}
    assert {k: found[k] for k in expected} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("milestones", [[], [5, 6, 7], [5, 5], [0, 5], [6, 5]])
def test_a_chain_refuses_milestones_that_do_not_fit_its_schedules(milestones: list[int]) -> None:
    with pytest.raises(ValueError, match="milestones must be"):
        Chain(optimizer(), [partial(CosineWarmup, iterations=10)] * 3, milestones)
