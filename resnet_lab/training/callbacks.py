"""Callbacks of a run: its curves, its last checkpoint, its end, its interruption."""

import logging
import signal
import time
from collections.abc import Collection
from functools import reduce
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import hparams

from resnet_lab.checks import UserError
from resnet_lab.data.streams import seed_of
from resnet_lab.runs.directory import Run, chained
from resnet_lab.runs.identity import hash_of_run
from resnet_lab.runs.signals import Interrupted, handle_signals, leave
from resnet_lab.tasks.module import TaskModule

log = logging.getLogger(__name__)

AGREE_EVERY = 0.5  # seconds between two agreements of the processes, roughly

# TensorBoard reads tags as regular expressions: without the $ the top-5 errors would be in the chart
CHARTS = {"error (%)": {"train and validation": ["Multiline", ["train/error$", "val/error$"]]}}


class StopAtIteration(Callback):
    """End the training after exactly `iterations` optimizer steps, within an epoch if need be."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self.begun = False

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.begun = True
        self._stop_if_complete(trainer)  # a resumed run may have only its last evaluation left

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._stop_if_complete(trainer)

    def _stop_if_complete(self, trainer: Trainer) -> None:
        if trainer.global_step >= self.iterations:
            trainer.should_stop = True


class OneRun(Callback):
    """Fail, before anything is trained, if processes of several runs have met on one port."""

    def __init__(self, run: Run) -> None:
        self.token = seed_of(str(run.directory)) >> 32

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.world_size == 1:
            return
        here = torch.tensor([self.token, -self.token], dtype=torch.float64, device=trainer.strategy.root_device)
        if trainer.strategy.reduce(here.clone(), reduce_op="max").tolist() != here.tolist():
            raise UserError("a process of another run took part; run the same command again to resume")


class Reseed(Callback):
    """Make a network's draws in training (dropout) depend only on (seed, iteration, process).

    So there is no random state for an interruption to lose.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        torch.manual_seed(seed_of("dropout", self.seed, trainer.global_step, trainer.global_rank))


class Pause(Callback):
    """Call `pause` after each iteration, at a point from which a Trainer would resume exactly.

    With an evaluation due, or on an epoch's last batch, that point comes after these.
    """

    def pause(self, trainer: Trainer, at_epoch_end: bool) -> None:
        raise NotImplementedError

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        fetcher = trainer.fit_loop._data_fetcher
        assert fetcher is not None  # training always has one
        if not ends_epoch(trainer) and not trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher):
            self.pause(trainer, at_epoch_end=False)

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not ends_epoch(trainer):
            self.pause(trainer, at_epoch_end=False)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self.pause(trainer, at_epoch_end=True)


def ends_epoch(trainer: Trainer) -> bool:
    return trainer.should_stop or trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


class Agreement:
    """Give all processes the largest of their values; 0 in most calls, because asking costs time.

    All processes must call it equally often.
    """

    def __init__(self) -> None:
        self.calls, self.left = 1, 1
        self.asked = time.monotonic()

    def __call__(self, trainer: Trainer, value: float) -> float:
        if trainer.world_size == 1:
            return value
        self.left -= 1
        if self.left:
            return 0.0
        here = torch.tensor([value, time.monotonic() - self.asked], device=trainer.strategy.root_device)
        agreed, seconds = trainer.strategy.reduce(here, reduce_op="max").tolist()
        # from reduced values only, so that all processes count the same calls
        self.calls = self.left = max(1, min(2 * self.calls, int(self.calls * AGREE_EVERY / max(seconds, 1e-6))))
        self.asked = time.monotonic()
        return float(agreed)


class Stop(Pause):
    """Turn a signal into a checkpoint and `Interrupted`, in all processes at the same batch.

    An interrupted evaluation is undone, and repeated when the run is resumed.
    """

    def __init__(self, checkpoints: "SaveLast") -> None:
        self.checkpoints = checkpoints
        self.received = 0
        self.number = 0  # of the signal that all processes have agreed on
        self.agree = Agreement()
        self.evaluation_due = False

    def state_dict(self) -> dict[str, Any]:
        return {"evaluation_due": self.evaluation_due}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.evaluation_due = state["evaluation_due"]

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        handle_signals(self._receive)
        if self.evaluation_due:
            self._evaluate(trainer)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        handle_signals(leave)  # everything is saved

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        handle_signals(self._receive)

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, module: TaskModule, outputs: Any, batch: Any, number: int, loader: int = 0
    ) -> None:
        if trainer.state.fn == "fit" and self._asked_in(trainer, trainer.val_dataloaders, number):
            module.undo_evaluation()
            self.evaluation_due = True
            self.checkpoints.save(trainer)
            raise self._interrupted(trainer)

    def on_test_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, number: int, loader: int = 0
    ) -> None:
        loaders: Any = trainer.test_dataloaders
        if self._asked_in(trainer, loaders[loader], number):
            raise self._interrupted(trainer)

    def pause(self, trainer: Trainer, at_epoch_end: bool) -> None:
        if self._asked(trainer):
            self.checkpoints.save(trainer)
            raise self._interrupted(trainer)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number

    def _asked(self, trainer: Trainer) -> bool:
        """Whether any process was asked to stop, once all of them know."""
        self.number = self.number or int(self.agree(trainer, self.received))
        return bool(self.number)

    def _asked_in(self, trainer: Trainer, loader: Any, batch: int) -> bool:
        """`_asked` within an evaluation, where only the first batches have a counterpart in each process."""
        return batch < loader.sampler.in_every_process and self._asked(trainer)

    def _interrupted(self, trainer: Trainer) -> Interrupted:
        name = signal.Signals(self.number).name
        return Interrupted(f"{name} at iteration {trainer.global_step}; run the same command again to resume")

    def _evaluate(self, trainer: Trainer) -> None:
        """Repeat the evaluation that a request to stop interrupted."""
        self.evaluation_due = False
        evaluation = trainer.fit_loop.epoch_loop.val_loop
        evaluation.restarting = False
        trainer.validating = True
        evaluation.run()
        trainer.training = True
        evaluation._has_run = False  # or Lightning would consider the epoch ended
        if trainer.should_stop:  # no end of an epoch follows that would save it
            self.checkpoints.save(trainer)


class SaveLast(Pause, Checkpoint):
    """Save the state and the run's identity at the end of each epoch, and every `save_every` seconds in long
    epochs.

    The curves are on the disk before the checkpoint is.
    """

    def __init__(self, run: Run, config: dict[str, Any]) -> None:
        self.path, self.every = run.checkpoint_path, config["runtime"]["save_every"]
        self.identity = hash_of_run(config)
        self.agree = Agreement()
        self.saved = time.monotonic()

    def pause(self, trainer: Trainer, at_epoch_end: bool) -> None:
        if at_epoch_end or self.agree(trainer, time.monotonic() - self.saved > self.every):
            self.save(trainer)

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["run"] = self.identity

    def save(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path)
        self.saved = time.monotonic()


class Curves(Callback):
    """Write each evaluation to metrics.csv, TensorBoard and the log.

    A value at step s was measured after s optimizer steps; `lr` is the rate of the last of them.
    """

    def __init__(self, run: Run, config: dict[str, Any], hyperparameters: dict[str, Any]) -> None:
        self.run, self.config, self.hyperparameters = run, config, hyperparameters
        self.since = 0.0
        self.evaluations = 0
        self.images_per_second = 0.0
        self.rows: str | None = ""  # checksum of the rows written
        self.lr = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {
            "evaluations": self.evaluations,
            "rows": self.rows,
            "images_per_second": self.images_per_second,
            "lr": self.lr,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.evaluations, self.rows = state["evaluations"], state.get("rows")
        self.images_per_second = state.get("images_per_second", 0.0)
        self.lr = state.get("lr", 0.0)

    def on_train_start(self, trainer: Trainer, module: TaskModule) -> None:  # type: ignore[override]
        self.since = time.perf_counter()
        self.images_before = int(module.measure("train").images)  # a resumed run may be within an interval
        self._check(trainer)
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self.hyperparameters)
        for writer in self._tensorboard(trainer):
            writer.add_custom_scalars(CHARTS)
            tags = dict.fromkeys(("train/error", "val/error", "test/error"), 0.0)
            for summary in hparams(self.hyperparameters, tags):  # type: ignore[no-untyped-call]
                writer._get_file_writer().add_summary(summary)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        # at the evaluation the schedule will already have set the next iteration's rate
        self.lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_validation_start(self, trainer: Trainer, module: TaskModule) -> None:  # type: ignore[override]
        if trainer.state.fn != "fit":
            return
        # reading the count waits for the device, so that the clock is read when the work is done
        images = (int(module.measure("train").images) - self.images_before) * trainer.world_size
        self.images_before = 0
        if images:  # none where an evaluation is repeated, which keeps the speed measured before it
            self.images_per_second = images / (time.perf_counter() - self.since)

    def on_validation_end(self, trainer: Trainer, module: TaskModule) -> None:  # type: ignore[override]
        self.evaluations += trainer.state.fn == "fit"
        if trainer.state.fn == "fit" and trainer.is_global_zero:
            self._write(trainer, module.logged)
        self.since = time.perf_counter()

    def on_test_start(self, trainer: Trainer, module: LightningModule) -> None:
        self._check(trainer)

    def on_test_end(self, trainer: Trainer, module: LightningModule) -> None:
        if trainer.is_global_zero:
            values = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
            self._log(trainer, {tag: value for tag, value in values.items() if tag.startswith("test")})

    def _check(self, trainer: Trainer) -> None:
        """Raise UserError unless each evaluation that the checkpoint knows of has its row, unaltered."""
        if not trainer.is_global_zero:
            return
        rows = self.run.metrics()
        if len(rows) != self.evaluations:
            raise UserError(
                f"{self.run.metrics_path} has {len(rows)} evaluations, the checkpoint knows of "
                f"{self.evaluations}; mend it, or start anew with force=true"
            )
        found = reduce(chained, rows, "")
        if self.rows not in (None, found):  # checkpoints of older versions have none
            raise UserError(
                f"{self.run.metrics_path} was edited: its rows are not those that the checkpoint knows of; "
                "restore them, or start anew with force=true"
            )
        self.rows = found

    def _write(self, trainer: Trainer, tags: Collection[str]) -> None:
        measured = {tag: float(value) for tag, value in trainer.callback_metrics.items()}
        errors = {
            tag: value for tag, value in measured.items() if tag in tags and tag.startswith(("train/", "val/"))
        }
        row = {"step": trainer.global_step, "epoch": trainer.current_epoch, "lr": self.lr}
        row |= {tag.replace("/", "_"): value for tag, value in errors.items()}
        row["images_per_second"] = round(self.images_per_second, 1)
        self.run.append_metrics(row)
        self.rows = chained(self.rows or "", row)
        self._log(trainer, errors | {"lr": self.lr, "perf/images_per_second": self.images_per_second})
        log.info(
            "iteration %d/%s: train error %.2f %%, val error %.2f %%, lr %g, %.0f images/s",
            trainer.global_step,
            self.config["iterations"],
            measured["train/error"],
            measured["val/error"],
            self.lr,
            self.images_per_second,
        )

    def _log(self, trainer: Trainer, values: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)

    def _tensorboard(self, trainer: Trainer) -> list[Any]:
        if not trainer.is_global_zero:
            return []
        return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
