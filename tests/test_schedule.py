from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from resnet_lab.schedule import MultiStep, MultiStepWarmup, Plateau

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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(MultiStep, milestones=[5, 3]), r"milestones must be positive .* got \[5, 3\]"),
        (partial(MultiStep, milestones=[0, 3]), r"milestones must be positive .* got \[0, 3\]"),
        (partial(MultiStep, milestones=[3], gamma=0.0), r"gamma must be in \(0, 1\], got 0.0"),
        (partial(MultiStepWarmup, milestones=[3], warmup_lr=-1), "warmup_lr must be positive, got -1"),
        (partial(MultiStepWarmup, milestones=[3], until_error=101), "until_error must be .* got 101"),
        (partial(MultiStepWarmup, milestones=[3], window=0), "window must be a positive integer, got 0"),
        (
            partial(Plateau, monitor="test/error"),
            "monitor must be train/error or val/error, got 'test/error'",
        ),
    ],
)
def test_errors(make: Make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(optimizer())
