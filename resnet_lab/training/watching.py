"""What is seen of a run while it trains: a bar on a terminal, lines in the log, a file for a sweep."""

import logging
import sys
import time
from collections import deque
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from resnet_lab.runs.bar import Bar
from resnet_lab.runs.directory import Run
from resnet_lab.runs.progress import Display, Progress, ProgressFile
from resnet_lab.tasks.module import TaskModule

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0  # seconds; to look is to wait for the device
SAY_EVERY = 60.0
RECENT = 30.0  # seconds of training that the pace is taken from
PASSES = ("testing on {:,} images", "final pass over {:,} training images, not augmented")


class Pace:
    """How fast a run goes, from what it did of late.

    Evaluations are no part of an iteration, and each to come is taken to last as long as the one before.

    Args:
        evaluated: iteration of the last evaluation.
    """

    def __init__(self, evaluated: int) -> None:
        self.evaluated = evaluated
        self.seen: deque[tuple[float, int]] = deque()  # seconds of training, iteration
        self.elsewhere = 0.0  # seconds that were no training
        self.evaluation = 0.0  # seconds that evaluations add to an iteration
        self.paused: float | None = None  # when the evaluation that is under way began
        self.interval = 0  # iterations before it

    def note(self, iteration: int, now: float) -> None:
        self.seen.append((now - self.elsewhere, iteration))
        while len(self.seen) > 2 and self.seen[-1][0] - self.seen[0][0] > RECENT:
            self.seen.popleft()

    def pause(self, iteration: int, now: float) -> None:
        self.paused, self.interval, self.evaluated = now, iteration - self.evaluated, iteration

    def go_on(self, now: float) -> None:
        if self.paused is None:
            return
        self.elsewhere += now - self.paused
        if self.interval > 0:  # an evaluation that is repeated follows no training
            self.evaluation = (now - self.paused) / self.interval
        self.paused = None

    def iteration_seconds(self) -> float | None:
        """Seconds that an iteration takes, without evaluations; None until two were seen."""
        if len(self.seen) < 2 or self.seen[0][1] == self.seen[-1][1]:
            return None
        (began, first), (ended, last) = self.seen[0], self.seen[-1]
        return max(ended - began, 1e-9) / (last - first)

    def seconds_left(self, iterations: int) -> float | None:
        """Seconds that so many further iterations take, with their evaluations."""
        each = self.iteration_seconds()
        return None if each is None else iterations * (each + self.evaluation)


class Watch(Callback):
    """Show how far the run is, in its first process alone. The training error is that of this process's images.

    Args:
        images: mean number of images in an iteration.
    """

    def __init__(self, run: Run, config: dict[str, Any], images: float) -> None:
        self.iterations, self.images, self.compiles = config["iterations"], images, config["runtime"]["compile"]
        self.run = run
        self.iteration = 0
        self.pace = Pace(evaluated=0)
        self.train_error: float | None = None
        self.val_error: float | None = None
        self.display: Display = Bar() if sys.stderr.isatty() else ProgressFile(run.progress_path)
        self.due = 0.0
        self.said = time.monotonic()

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.iteration = trainer.global_step
        for last in self.run.metrics()[-1:]:
            self.pace.evaluated, self.val_error = int(last["step"]), float(last["val_error"])
        if self.compiles:
            log.info("compiling the net in the first iteration")
        self._show("compiling" if self.compiles else "")

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.pace.go_on(time.monotonic())

    def on_train_batch_end(self, trainer: Trainer, module: TaskModule, *_: Any) -> None:  # type: ignore[override]
        if time.monotonic() < self.due:
            return
        self.iteration = trainer.global_step
        self.train_error = module.measure("train").error_so_far()
        self.pace.note(self.iteration, time.monotonic())
        self._show()

    def on_validation_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.iteration = trainer.global_step
        self.pace.pause(self.iteration, time.monotonic())

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, number: int, loader: int = 0
    ) -> None:
        self._show_pass("validating", number, trainer.num_val_batches[loader])

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.val_error = float(trainer.callback_metrics["val/error"])
        self.train_error = float(trainer.callback_metrics["train/error"])

    def on_test_batch_start(  # type: ignore[override]
        self, trainer: Trainer, module: LightningModule, batch: Any, number: int, loader: int = 0
    ) -> None:
        if number == 0:
            loaders: Any = trainer.test_dataloaders
            log.info(PASSES[loader].format(loaders[loader].sampler.images))

    def on_test_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, number: int, loader: int = 0
    ) -> None:
        self._show_pass(("testing", "final pass")[loader], number, trainer.num_test_batches[loader])

    def on_exception(self, trainer: Trainer, module: LightningModule, exception: BaseException) -> None:
        self.display.close()

    def on_test_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.display.close()

    def _show_pass(self, name: str, number: int, batches: float) -> None:
        if time.monotonic() >= self.due:
            self._show(f"{name} {100 * (number + 1) / batches:.0f} %")

    def _show(self, doing: str = "") -> None:
        progress = self._progress(doing)
        self.display.show(progress)
        now = time.monotonic()
        self.due = now + LOOK_EVERY
        if now - self.said >= SAY_EVERY:
            log.info("iteration %d/%d: %s", self.iteration, self.iterations, progress.words())
            self.said = now

    def _progress(self, doing: str) -> Progress:
        each = self.pace.iteration_seconds()
        speed = None if each is None else self.images / each
        left = self.pace.seconds_left(self.iterations - self.iteration)
        return Progress(self.iteration, self.iterations, self.train_error, self.val_error, speed, left, doing)
