"""The LightningModule: cross-entropy, exact errors, learning rate; independent of architecture and dataset."""

import math
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from resnet_lab.checks import UserError
from resnet_lab.data.batches import Batch
from resnet_lab.data.mixing import Mixup
from resnet_lab.models.auxiliary import WithAuxiliary
from resnet_lab.schedule import MultiStepWarmup, Plateau

CHECK_EVERY = 50  # iterations between checks that the loss is finite, each of which waits for the device


class Tally(nn.Module):
    """Sums over images, on the device: their number, how many are wrong, and their loss."""

    images: Tensor
    wrong: Tensor
    wrong_top5: Tensor
    loss: Tensor

    def __init__(self, top5: bool) -> None:
        super().__init__()
        self.top5 = top5
        for name in ("images", "wrong", "wrong_top5"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self.register_buffer("loss", torch.zeros((), dtype=torch.float64))

    def _apply(self, *how: Any, **more: Any) -> "Tally":
        super()._apply(*how, **more)  # type: ignore[no-untyped-call]
        self.loss = self.loss.double()  # in any precision of the network
        return self

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor, mean_loss: Tensor) -> Tensor:
        """Count a batch of logits (N, classes); return the number of wrong ones."""
        wrong = (logits.argmax(1) != labels).sum()
        self.images += len(labels)
        self.wrong += wrong
        self.loss += mean_loss.double() * len(labels)
        if self.top5:
            self.wrong_top5 += len(labels) - (logits.topk(5).indices == labels[:, None]).sum()
        return wrong

    def reset(self) -> None:
        for buffer in self.buffers():
            buffer.zero_()

    def compute_and_reset(self, reduce: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Compute mean loss and errors in percent over all processes' images, and reset the sums.

        `reduce` sums a tensor over the processes.

        Raises:
            UserError: no image was counted.
        """
        sums = torch.stack([self.images, self.wrong, self.wrong_top5]).double()
        images, wrong, wrong_top5, loss = reduce(torch.cat([sums, self.loss[None]])).tolist()
        self.reset()
        if not images:
            raise UserError("none of the images can be read")
        means = {"loss": loss / images, "error": 100 * wrong / images}
        return means | ({"error_top5": 100 * wrong_top5 / images} if self.top5 else {})


def losses(
    output: Any, labels: Tensor, targets: Tensor | None = None, smoothing: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The logits, their mean cross-entropy, and the loss to train on.

    The latter includes the auxiliary ones; it is taken against `targets` (N, classes) in place of the labels, and
    with smoothed ones, where these are given.
    """
    logits, auxiliary = (output.logits, output.auxiliary) if isinstance(output, WithAuxiliary) else (output, ())
    loss = F.cross_entropy(logits, labels)
    goal = labels if targets is None else targets
    plain = targets is None and not smoothing
    trained_on = loss if plain else F.cross_entropy(logits, goal, label_smoothing=smoothing)
    if auxiliary:
        others = sum(F.cross_entropy(each, goal, label_smoothing=smoothing) for each in auxiliary)
        trained_on = trained_on + output.weight * others
    return logits, loss, trained_on


def sum_over_processes(trainer: Trainer, tensor: Tensor) -> Tensor:
    # a copy, because the reduction is in place
    total = trainer.strategy.reduce(tensor.clone(), reduce_op="sum")
    assert isinstance(total, Tensor)
    return total


class Classifier(LightningModule):
    """A network trained on single-label images.

    Args:
        net: from (N, C, H, W) images to (N, num_classes) logits; in training also `WithAuxiliary`, whose auxiliary
            losses are trained on and not logged.
        optimizer: makes the optimizer from the parameters.
        schedule: makes the schedule from the optimizer; it steps once per iteration, a Plateau once per
            evaluation.
        num_classes: with more than five, the top-5 error is counted as well.
        label_smoothing: part of each target that is spread over all classes (arXiv:1512.00567).
        mixup: parameter of the Beta distribution that pairs of images are mixed by (arXiv:1710.09412); 0 for none.
        seed: of what is drawn for that.

    Each evaluation logs train/* (over the iterations since the last one, augmented, while the weights change, as
    the paper plots it) and val/*; a test logs test/* and train_clean/*.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Callable[[Optimizer], LRScheduler],
        num_classes: int,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.net = net
        self.label_smoothing = label_smoothing
        self.mix = Mixup(mixup, num_classes, seed) if mixup else None
        self.diverged_at: Tensor
        self.make_optimizer, self.make_schedule = optimizer, schedule
        top5 = num_classes > 5
        self.register_buffer("diverged_at", torch.tensor(-1), persistent=False)
        self._recent_lr: deque[tuple[int, float]] = deque(maxlen=CHECK_EVERY)  # iteration, rate
        self._own_statistics: list[tuple[Tensor, Tensor]] = []
        for name in ("train", "val", "test", "train_clean"):
            self.add_module(f"{name}_tally", Tally(top5))

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
        images, targets = (batch.images, None) if self.mix is None else self.mix(batch)
        logits, loss, trained_on = losses(self(images), batch.labels, targets, self.label_smoothing)
        wrong = self.tally("train").add(logits, batch.labels, loss)
        schedule = self.lr_schedulers()
        if isinstance(schedule, MultiStepWarmup) and schedule.warming:
            self._observe(schedule, wrong, batch)
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
        self.tally("val").reset()
        for buffer, own in self._own_statistics:
            buffer.copy_(own)

    def tally(self, name: str) -> Tally:
        tally = getattr(self, f"{name}_tally")
        assert isinstance(tally, Tally)
        return tally

    def _evaluate(self, name: str, batch: Batch) -> None:
        if not len(batch.labels):  # none of its images could be read
            return
        logits = self(batch.images)
        self.tally(name).add(logits, batch.labels, F.cross_entropy(logits, batch.labels))

    def _log(self, name: str) -> None:
        means = self.tally(name).compute_and_reset(self._sum_over_processes)
        if not math.isfinite(means["loss"]):
            raise UserError(
                f"the {name} loss is not finite after iteration {self.global_step}; try a smaller optimizer.lr"
            )
        for key, mean in means.items():
            value = torch.tensor(mean, dtype=torch.float64)
            self.log(f"{name}/{key}", value, logger=False, sync_dist=True)

    def _observe(self, schedule: MultiStepWarmup, wrong: Tensor, batch: Batch) -> None:
        counts = torch.stack([wrong, torch.full_like(wrong, len(batch.labels))])
        all_wrong, all_images = self._sum_over_processes(counts.double())
        schedule.observe(100 * all_wrong / all_images)

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
