"""Learning rate schedules in iterations.

MultiStep, CosineWarmup and a Chain of these depend on the iteration alone, MultiStepWarmup and Plateau on errors,
too.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau, SequentialLR

from resnet_lab.checks import check_at_least, check_positive


class MultiStep(LRScheduler):
    """Multiply the optimizer's rate by `gamma` at each milestone (Section 4.2: at 32k and 48k).

    Raises:
        ValueError: milestones are not positive integers in order, or gamma is not in (0, 1].
    """

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        whole = all(isinstance(m, int) and not isinstance(m, bool) and m > 0 for m in milestones)
        if not whole or any(a > b for a, b in pairwise(milestones)):
            raise ValueError(f"milestones must be positive iterations in order, got {list(milestones)}")
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma must be in (0, 1], got {gamma}")
        self.milestones = list(milestones)
        self.gamma = gamma
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        factor = self.gamma ** bisect_right(self.milestones, self.last_epoch)
        return [base * factor for base in self.base_lrs]


class CosineWarmup(LRScheduler):
    """A straight line up to the optimizer's rate over `warmup` iterations, then half a cosine down to `min_lr`.

    Iteration 0 has 1 / `warmup` of the rate, iteration `warmup` all of it (arXiv:1608.03983, arXiv:1706.02677).

    Raises:
        ValueError: warmup is not below iterations, or a number is negative.
    """

    def __init__(self, optimizer: Optimizer, iterations: int, warmup: int = 0, min_lr: float = 0.0) -> None:
        check_positive(iterations=iterations)
        check_at_least(0, warmup=warmup)
        if warmup >= iterations:
            raise ValueError(f"warmup must be below the {iterations} iterations, got {warmup}")
        if not 0 <= min_lr < float("inf"):
            raise ValueError(f"min_lr must be 0 or more, got {min_lr}")
        self.iterations, self.warmup, self.min_lr = iterations, warmup, min_lr
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        k = self.last_epoch
        if k < self.warmup:
            return [base * (k + 1) / self.warmup for base in self.base_lrs]
        part = min(1.0, (k - self.warmup) / (self.iterations - self.warmup))
        return [self.min_lr + (base - self.min_lr) * (1 + math.cos(math.pi * part)) / 2 for base in self.base_lrs]


class MultiStepWarmup(MultiStep):
    """Hold `warmup_lr` until the training error is below `until_error` percent, then follow MultiStep.

    This is the paper's recipe for ResNet-110 (Section 4.2). The training error is averaged over windows of
    `window` iterations and judged at the end of each; the milestones count from iteration 0.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[int],
        gamma: float = 0.1,
        warmup_lr: float = 0.01,
        until_error: float = 80.0,
        window: int = 50,
    ) -> None:
        if warmup_lr <= 0:
            raise ValueError(f"warmup_lr must be positive, got {warmup_lr}")
        if not 0 < until_error <= 100:
            raise ValueError(f"until_error must be a percentage in (0, 100], got {until_error}")
        check_positive(window=window)
        self.warmup_lr, self.until_error, self.window = warmup_lr, until_error, window
        self.warming = True
        self._seen: list[Tensor] = []
        super().__init__(optimizer, milestones, gamma)

    def observe(self, error: Tensor) -> None:
        """Record the training error, a scalar in percent, of the iteration that has just ended."""
        self._seen.append(error.detach())
        if len(self._seen) == self.window:
            # the only place that waits for the device, once per window
            self.warming = float(sum(self._seen)) / self.window >= self.until_error
            self._seen = []

    def get_lr(self) -> list[float | Tensor]:
        return [self.warmup_lr for _ in self.base_lrs] if self.warming else super().get_lr()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_seen": [float(error) for error in self._seen]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        device = self.optimizer.param_groups[0]["params"][0].device
        self._seen = [torch.tensor(error, device=device) for error in self._seen]


class Plateau(ReduceLROnPlateau):
    """Multiply the rate by `gamma` when `monitor` has stopped falling (Section 3.4).

    An evaluation counts as progress if it is below the lowest value so far by the fraction `threshold`: with 0.05
    and a lowest error of 40 %, below 38 %. The rate falls after more than `patience` evaluations in a row without
    progress. The paper gives no such rule. `monitor` is `train/error`, or `val/error` where images are held out to
    validate on: otherwise the test error would steer the training.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        monitor: str = "train/error",
        gamma: float = 0.1,
        patience: int = 12,
        threshold: float = 0.05,
        min_lr: float = 1e-6,
    ) -> None:
        if monitor not in ("train/error", "val/error"):
            raise ValueError(f"monitor must be train/error or val/error, got {monitor!r}")
        if not 0 < gamma < 1:
            raise ValueError(f"gamma must be in (0, 1), got {gamma}")
        if not 0 <= threshold < 1:
            raise ValueError(f"threshold must be in [0, 1), got {threshold}")
        if min_lr < 0:
            raise ValueError(f"min_lr must not be negative, got {min_lr}")
        check_at_least(0, patience=patience)
        self.monitor = monitor
        super().__init__(
            optimizer, factor=gamma, patience=patience, threshold=threshold, threshold_mode="rel", min_lr=min_lr
        )


class Chain(SequentialLR):
    """One schedule after the other: each counts its iterations from the milestone that it begins at.

    Args:
        schedules: factories of schedules that still take the optimizer, in order.
        milestones: the iterations at which the second and each further one begin, in order.

    Raises:
        ValueError: there are not as many milestones as schedules after the first, or they do not rise.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedules: Sequence[Callable[[Optimizer], LRScheduler]],
        milestones: Sequence[int],
    ) -> None:
        if not schedules or len(milestones) != len(schedules) - 1:
            raise ValueError(
                f"milestones must be one fewer than the {len(schedules)} schedules, got {list(milestones)}"
            )
        if any(a >= b for a, b in pairwise([0, *milestones])):
            raise ValueError(f"milestones must be positive iterations that rise, got {list(milestones)}")
        super().__init__(optimizer, [make(optimizer) for make in schedules], list(milestones))
