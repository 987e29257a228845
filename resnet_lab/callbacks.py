"""What happens beside the training: the curves, the last checkpoint, the end, an interruption."""

import logging
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from resnet_lab.classifier import Classifier
from resnet_lab.record import Run
from resnet_lab.signals import Interrupted, handle_signals, raise_interrupted

log = logging.getLogger(__name__)

# TensorBoard takes tags for regular expressions: without the $ the top-5 errors would be in the chart
CHARTS = {"error (%)": {"train and validation": ["Multiline", ["train/error$", "val/error$"]]}}


class StopAtIteration(Callback):
    """Ends the training after exactly `iterations` optimizer steps, inside an epoch if need be."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step >= self.iterations:
            trainer.should_stop = True


class StopOnSignal(Callback):
    """Turns SIGTERM and Ctrl-C into `Interrupted`; in training at the end of an iteration, in all processes.

    The handlers are set in hooks because Lightning sets its own before them, and those exit as if all were well.
    """

    # Agreeing costs a collective; within a second or so is soon enough.
    AGREE_EVERY = 10

    def __init__(self) -> None:
        self.received = torch.zeros(())

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        handle_signals(self._receive)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        handle_signals(raise_interrupted)

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        handle_signals(raise_interrupted)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = torch.tensor(float(number))

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        number = self.received
        if trainer.world_size > 1:
            if trainer.global_step % self.AGREE_EVERY:
                return
            number = trainer.strategy.reduce(number.to(trainer.strategy.root_device), reduce_op="max")
        if number:
            name = signal.Signals(int(number)).name
            raise Interrupted(f"{name} at iteration {trainer.global_step}; the same command goes on")


class SaveLast(Checkpoint):
    """Saves the state at the end of each epoch, after the curves are on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path)


class Curves(Callback):
    """Writes each evaluation to metrics.csv, TensorBoard and the log.

    A value at step s was measured after s optimizer steps.
    """

    def __init__(self, run: Run, iterations: int, hyperparameters: dict[str, Any]) -> None:
        self.run, self.iterations, self.hyperparameters = run, iterations, hyperparameters
        self.since = 0.0

    def on_train_start(self, trainer: Trainer, module: Classifier) -> None:  # type: ignore[override]
        self.since = time.perf_counter()
        self.images_before = int(module.tally("train").images)  # of an interval that a resumed run is inside
        for writer in self._tensorboard(trainer):
            writer.add_custom_scalars(CHARTS)
            tags = dict.fromkeys(("train/error", "val/error", "test/error"), 0.0)
            for summary in hparams(self.hyperparameters, tags):  # type: ignore[no-untyped-call]
                writer._get_file_writer().add_summary(summary)

    def on_validation_start(self, trainer: Trainer, module: Classifier) -> None:  # type: ignore[override]
        if trainer.state.fn != "fit":
            return
        # reading the count waits for the device, so that the clock is read when the work is done
        images = (int(module.tally("train").images) - self.images_before) * trainer.world_size
        self.images_before = 0
        self.images_per_second = images / (time.perf_counter() - self.since)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn == "fit" and trainer.is_global_zero:
            self._write(trainer)
        self.since = time.perf_counter()

    def on_test_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero:
            values = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
            self._log(trainer, {tag: value for tag, value in values.items() if tag.startswith("test")})

    def _write(self, trainer: Trainer) -> None:
        measured = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        errors = {tag: value for tag, value in measured.items() if tag.startswith(("train/", "val/"))}
        row = {"step": trainer.global_step, "epoch": trainer.current_epoch, "lr": lr}
        row |= {tag.replace("/", "_"): value for tag, value in errors.items()}
        self.run.append_metrics(row | {"images_per_second": round(self.images_per_second, 1)})
        self._log(trainer, errors | {"lr": lr, "perf/images_per_second": self.images_per_second})
        log.info(
            "iteration %d/%s: train error %.2f %%, val error %.2f %%, lr %g, %.0f images/s",
            trainer.global_step,
            self.iterations,
            measured["train/error"],
            measured["val/error"],
            lr,
            self.images_per_second,
        )

    def _log(self, trainer: Trainer, values: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def _tensorboard(self, trainer: Trainer) -> list[Any]:
        if not trainer.is_global_zero:
            return []
        return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
