"""What the LightningModules of all tasks share: optimizer, schedule, curves, exact resumption, finite losses."""

import math
import sys
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from resnet_lab.checks import UserError
from resnet_lab.data.annotations import Annotation
from resnet_lab.data.batches import Batch
from resnet_lab.schedule import MultiStepWarmup, Plateau

CHECK_EVERY = 50  # iterations between checks that the loss is finite, each of which waits for the device
PARTS = ("train", "val", "test", "train_clean")

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeSchedule = Callable[[Optimizer], LRScheduler]
Reduce = Callable[[Tensor], Tensor]  # the sum of a tensor over the processes


class Measure(nn.Module):
    """Sums over images, kept on the device and in checkpoints, and what follows from them.

    A measure has an `error` in percent, 0 for a perfect net, and most have a mean `loss`.
    """

    images: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("images", torch.zeros((), dtype=torch.int64))

    def reset(self) -> None:
        for buffer in self.buffers():
            buffer.zero_()

    def error_so_far(self) -> float | None:
        """The error over the images of this process since the last reset; None where it is not known."""
        return None

    @abstractmethod
    def compute_and_reset(self, reduce: Reduce) -> dict[str, float]:
        """Compute over all processes' images, and reset the sums.

        `reduce` sums a tensor over the processes.

        Raises:
            UserError: no image was counted.
        """

    def counted(self, images: float) -> float:
        if not images:
            raise UserError("none of the images can be read")
        return images


class Counts(Measure):
    """How many are wrong, and their mean loss."""

    wrong: Tensor
    loss: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("wrong", torch.zeros((), dtype=torch.int64))
        self.register_buffer("loss", torch.zeros((), dtype=torch.float64))

    def _apply(self, *how: Any, **more: Any) -> "Counts":
        super()._apply(*how, **more)  # type: ignore[no-untyped-call]
        self.loss = self.loss.double()  # in any precision of the network
        return self

    def error_so_far(self) -> float | None:
        images, wrong = torch.stack([self.images, self.wrong]).tolist()
        return 100 * wrong / images if images else None


def sum_over_processes(trainer: Trainer, tensor: Tensor) -> Tensor:
    # a copy, because the reduction is in place
    total = trainer.strategy.reduce(tensor.clone(), reduce_op="sum")
    assert isinstance(total, Tensor)
    return total


class TaskModule(LightningModule):
    """A network trained for a task.

    Args:
        net: what is trained.
        optimizer: makes the optimizer from the parameters.
        schedule: makes the schedule from the optimizer; it steps once per iteration, a Plateau once per
            evaluation.
        measures: makes the measure of each part: train, val, test and train_clean.

    Each evaluation logs train/* (over the iterations since the last one, augmented, while the weights change, as
    the paper plots it) and val/*; a test logs test/* and train_clean/*.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: MakeOptimizer,
        schedule: MakeSchedule,
        measures: Callable[[str], Measure],
    ) -> None:
        super().__init__()
        self.net = net
        self.diverged_at: Tensor
        self.make_optimizer, self.make_schedule = optimizer, schedule
        self.register_buffer("diverged_at", torch.tensor(-1), persistent=False)
        self._recent_lr: deque[tuple[int, float]] = deque(maxlen=CHECK_EVERY)  # iteration, rate
        self._own_statistics: list[tuple[Tensor, Tensor]] = []
        self.logged: set[str] = set()  # the tags of its own values: callbacks may log under train/ and val/, too
        for name in PARTS:
            self.add_module(f"{name}_tally", measures(name))

    @abstractmethod
    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Count a training batch; return its mean loss, and the loss to train on."""

    @abstractmethod
    def evaluate(self, name: str, batch: Batch) -> None:
        """Count a batch of an evaluation in the measure of that part."""

    def found(self, images: Any) -> list[Annotation]:
        """What the net, in evaluation mode, finds in normalized images; only for tasks with annotations."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Any:
        return self.net(images)

    def configure_optimizers(self) -> Any:
        trained = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        optimizer = self.make_optimizer(trained)
        schedule = self.make_schedule(optimizer)
        how: dict[str, Any] = {"interval": "step"}
        if isinstance(schedule, Plateau):
            # Lightning would step it after writing the checkpoint; `on_validation_epoch_end` steps it instead
            how = {"interval": "epoch", "frequency": sys.maxsize, "monitor": schedule.monitor}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, **how}}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss, trained_on = self.losses(batch)
        self._watch(loss)
        return trained_on * batch.weight

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(("test", "train_clean")[dataloader_idx], batch)

    def on_validation_start(self) -> None:
        self._check_finite()
        if self.trainer.world_size > 1:
            self._average_statistics()

    def on_validation_epoch_end(self) -> None:
        if self.trainer.state.fn == "fit":
            self._log("train")
        self._log("val")
        schedule = self.lr_schedulers() if self.trainer.state.fn == "fit" else None
        if isinstance(schedule, Plateau):
            schedule.step(self.trainer.callback_metrics[schedule.monitor].item())

    def on_test_epoch_end(self) -> None:
        for name in ("test", "train_clean")[: len(self.trainer.num_test_batches)]:
            self._log(name)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add each process's own counts and statistics, so that all of them resume exactly.

        The weights that others read have the mean of the statistics.
        """
        if self.trainer.world_size == 1:
            return
        state = checkpoint["state_dict"]
        buffers = [name for name, _ in self.named_buffers() if name in state]
        checkpoint["own"] = own = {name: self._of_all_processes(state[name]) for name in buffers}
        means = {name: of_all.mean(0) for name, of_all in own.items() if of_all.is_floating_point()}
        state.update({name: mean for name, mean in means.items() if name.startswith("net.")})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore this process's own counts and statistics; with another number of processes, its share of all.

        The running statistics are then the mean stored with the weights.
        """
        state, own = checkpoint["state_dict"], checkpoint.get("own", {})
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        if not own and processes == 1:
            return
        for name in [name for name, _ in self.named_buffers() if name in state]:
            of_all = own.get(name, state[name][None])
            if len(of_all) == processes:
                state[name] = of_all[rank]
            elif not name.startswith("net."):  # counts, which are summed over the processes
                state[name] = of_all.sum(0) if rank == 0 else torch.zeros_like(of_all[0])

    def undo_evaluation(self) -> None:
        """Restore the state before the evaluation that is under way."""
        self.measure("val").reset()
        for buffer, own in self._own_statistics:
            buffer.copy_(own)

    def measure(self, name: str) -> Measure:
        """That of a part: train, val, test or train_clean."""
        measure = getattr(self, f"{name}_tally")
        assert isinstance(measure, Measure)
        return measure

    def _evaluate(self, name: str, batch: Batch) -> None:
        if len(batch.labels):  # else none of its images could be read
            self.evaluate(name, batch)

    def _log(self, name: str) -> None:
        means = self.measure(name).compute_and_reset(self._sum_over_processes)
        if not math.isfinite(means.get("loss", 0)):
            raise UserError(
                f"the {name} loss is not finite after iteration {self.global_step}; try a smaller optimizer.lr"
            )
        for key, mean in means.items():
            value = torch.tensor(mean, dtype=torch.float64, device=self.device)  # NCCL reduces nothing on a CPU
            self.log(f"{name}/{key}", value, logger=False, sync_dist=True)
            self.logged.add(f"{name}/{key}")

    def _observe(self, wrong: Tensor, counted: int) -> None:
        """Tell a schedule that is warming up how many were wrong, over all processes."""
        schedule = self.lr_schedulers()
        if isinstance(schedule, MultiStepWarmup) and schedule.warming:
            counts = torch.stack([wrong, torch.full_like(wrong, counted)])
            all_wrong, all_counted = self._sum_over_processes(counts.double())
            schedule.observe(100 * all_wrong / all_counted)

    def _sum_over_processes(self, tensor: Tensor) -> Tensor:
        return sum_over_processes(self.trainer, tensor)

    def _of_all_processes(self, tensor: Tensor) -> Tensor:
        """Gather a tensor into (processes, ...); the sum is exact because each process fills a row of its own."""
        rows = tensor.new_zeros(self.trainer.world_size, *tensor.shape)
        rows[self.trainer.global_rank] = tensor
        return self._sum_over_processes(rows)

    def _average_statistics(self) -> None:
        """Give all processes the mean of their running means and variances, so that they evaluate one net."""
        statistics = [buffer for buffer in self.net.buffers() if buffer.is_floating_point()]
        self._own_statistics = [(buffer, buffer.clone()) for buffer in statistics]
        for buffer in statistics:
            buffer.copy_(self.trainer.strategy.reduce(buffer, reduce_op="mean"))

    def _watch(self, loss: Tensor) -> None:
        """Note on the device where the loss was first not finite, and check that now and then."""
        here = torch.full_like(self.diverged_at, self.global_step)
        self.diverged_at = torch.where((self.diverged_at < 0) & ~loss.isfinite(), here, self.diverged_at)
        self._recent_lr.append((self.global_step, self.trainer.optimizers[0].param_groups[0]["lr"]))
        if self.global_step % CHECK_EVERY == 0:
            self._check_finite()

    def _check_finite(self) -> None:
        # the latest over the processes, so that all of them stop or none
        step = int(self.trainer.strategy.reduce(self.diverged_at, reduce_op="max"))
        if step < 0:
            return
        lr = dict(self._recent_lr)[step]
        epoch, batch = divmod(step, int(self.trainer.num_training_batches))
        raise UserError(
            f"the loss is not finite at iteration {step} (epoch {epoch}, batch {batch}), lr {lr:g}; "
            "try a smaller optimizer.lr"
        )
