"""What happens beside the training: the curves, the last checkpoint, the end, an interruption."""

import logging
import signal
import time
from abc import abstractmethod
from functools import reduce
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from resnet_lab.checks import UserError
from resnet_lab.classifier import Classifier
from resnet_lab.data.streams import seed_of
from resnet_lab.record import Run, chained, hash_of_run
from resnet_lab.signals import Interrupted, handle_signals, raise_interrupted

log = logging.getLogger(__name__)

# Iterations between two agreements of the processes; within a second or so is soon enough.
AGREE_EVERY = 10

# TensorBoard takes tags for regular expressions: without the $ the top-5 errors would be in the chart
CHARTS = {"error (%)": {"train and validation": ["Multiline", ["train/error$", "val/error$"]]}}


class StopAtIteration(Callback):
    """Ends the training after exactly `iterations` optimizer steps, inside an epoch if need be."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step >= self.iterations:
            trainer.should_stop = True


class OneRun(Callback):
    """Fails, before anything is trained, where processes of several runs have found each other by a port."""

    def __init__(self, run: Run) -> None:
        self.token = seed_of(str(run.directory)) >> 32

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.world_size == 1:
            return
        here = torch.tensor([self.token, -self.token], dtype=torch.float64, device=trainer.strategy.root_device)
        if trainer.strategy.reduce(here.clone(), reduce_op="max").tolist() != here.tolist():
            raise UserError("the process of another run took part; the same command goes on")


class Reseed(Callback):
    """Makes what a network draws while it trains (dropout) a function of (seed, iteration, process).

    So there is no random state that an interruption could lose.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        torch.manual_seed(seed_of("dropout", self.seed, trainer.global_step, trainer.global_rank))


class Pause(Callback):
    """Calls `pause` after each iteration, when a Trainer would go on exactly from a checkpoint.

    That is not while an evaluation is due, nor on an epoch's last batch, but after these.
    """

    @abstractmethod
    def pause(self, trainer: Trainer, at_epoch_end: bool) -> None: ...

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None  # there is one in training
        if not ends_epoch(trainer) and not trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher):
            self.pause(trainer, at_epoch_end=False)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not ends_epoch(trainer):
            self.pause(trainer, at_epoch_end=False)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.pause(trainer, at_epoch_end=True)


def ends_epoch(trainer: Trainer) -> bool:
    return trainer.should_stop or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


class Stop(Pause):
    """Turns a signal into a checkpoint and `Interrupted`, in all processes at the same iteration.

    The handlers are set in hooks because Lightning sets its own before them, and those exit as if all were well.
    """

    def __init__(self, checkpoints: "SaveLast") -> None:
        self.checkpoints = checkpoints
        self.received = 0
        self.number = 0  # what all processes have agreed on

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        handle_signals(self._receive)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        handle_signals(raise_interrupted)

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        handle_signals(raise_interrupted)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def pause(self, trainer: Trainer, at_epoch_end: bool) -> None:
        self.number = self.number or int(agreed(trainer, self.received))
        if self.number:
            self.checkpoints.save(trainer)
            name = signal.Signals(self.number).name
            raise Interrupted(f"{name} at iteration {trainer.global_step}; the same command goes on")


class SaveLast(Pause, Checkpoint):
    """Saves the state at the end of each epoch and, in long epochs, every so many seconds.

    The curves are on the disk before.
    """

    def __init__(self, path: Path, every: float) -> None:
        self.path, self.every = path, every
        self.saved = time.monotonic()

    def pause(self, trainer: Trainer, at_epoch_end: bool) -> None:
        if at_epoch_end or agreed(trainer, time.monotonic() - self.saved > self.every):
            self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path)
        self.saved = time.monotonic()


def agreed(trainer: Trainer, value: float) -> float:
    """The largest value of all processes, to all of them; in most iterations 0, as asking costs."""
    if trainer.world_size == 1:
        return value
    if trainer.global_step % AGREE_EVERY:
        return 0.0
    here = torch.tensor(float(value), device=trainer.strategy.root_device)
    return float(trainer.strategy.reduce(here, reduce_op="max"))


class Curves(Callback):
    """Writes each evaluation to metrics.csv, TensorBoard and the log.

    A value at step s was measured after s optimizer steps.
    """

    def __init__(self, run: Run, config: dict[str, Any], hyperparameters: dict[str, Any]) -> None:
        self.run, self.config, self.hyperparameters = run, config, hyperparameters
        self.since = 0.0
        self.evaluations = 0
        self.rows: str | None = ""  # the checksum of the evaluations

    def state_dict(self) -> dict[str, Any]:
        return {"evaluations": self.evaluations, "rows": self.rows, "run": hash_of_run(self.config)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.evaluations, self.rows = state["evaluations"], state.get("rows")

    def on_train_start(self, trainer: Trainer, module: Classifier) -> None:  # type: ignore[override]
        self.since = time.perf_counter()
        self.images_before = int(module.tally("train").images)  # of an interval that a resumed run is inside
        self._check(trainer)
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
        self.evaluations += trainer.state.fn == "fit"
        if trainer.state.fn == "fit" and trainer.is_global_zero:
            self._write(trainer)
        self.since = time.perf_counter()

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._check(trainer)

    def on_test_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero:
            values = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
            self._log(trainer, {tag: value for tag, value in values.items() if tag.startswith("test")})

    def _check(self, trainer: Trainer) -> None:
        """Raise unless each evaluation that the checkpoint knows of has its row, as it was written."""
        if not trainer.is_global_zero:
            return
        rows = self.run.metrics()
        if len(rows) != self.evaluations:
            raise UserError(
                f"{self.run.metrics_path} has {len(rows)} evaluations, the checkpoint knows of "
                f"{self.evaluations}; mend it, or start anew with force=true"
            )
        found = reduce(chained, rows, "")
        if self.rows not in (None, found):  # a checkpoint of an older version has none
            raise UserError(
                f"{self.run.metrics_path} was edited: its rows are not those that the checkpoint knows of; "
                "restore them, or start anew with force=true"
            )
        self.rows = found

    def _write(self, trainer: Trainer) -> None:
        measured = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        errors = {tag: value for tag, value in measured.items() if tag.startswith(("train/", "val/"))}
        row = {"step": trainer.global_step, "epoch": trainer.current_epoch, "lr": lr}
        row |= {tag.replace("/", "_"): value for tag, value in errors.items()}
        row["images_per_second"] = round(self.images_per_second, 1)
        self.run.append_metrics(row)
        self.rows = chained(self.rows or "", row)
        self._log(trainer, errors | {"lr": lr, "perf/images_per_second": self.images_per_second})
        log.info(
            "iteration %d/%s: train error %.2f %%, val error %.2f %%, lr %g, %.0f images/s",
            trainer.global_step,
            self.config["iterations"],
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
