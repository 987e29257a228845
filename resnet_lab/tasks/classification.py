"""Classification: cross-entropy and exact errors."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.data.batches import Batch
from resnet_lab.data.mixing import Mixup
from resnet_lab.models.auxiliary import WithAuxiliary
from resnet_lab.tasks.module import Counts, MakeOptimizer, MakeSchedule, Reduce, TaskModule
from resnet_lab.tasks.task import Task

if TYPE_CHECKING:
    from resnet_lab.data import ImageData


class Tally(Counts):
    """How many images are wrong, by the first and, if `top5`, by the first five classes, and their mean loss."""

    wrong_top5: Tensor

    def __init__(self, top5: bool) -> None:
        super().__init__()
        self.top5 = top5
        self.register_buffer("wrong_top5", torch.zeros((), dtype=torch.int64))

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

    def compute_and_reset(self, reduce: Reduce) -> dict[str, float]:
        """Compute mean loss and errors in percent; see `Measure`."""
        sums = torch.stack([self.images, self.wrong, self.wrong_top5]).double()
        images, wrong, wrong_top5, loss = reduce(torch.cat([sums, self.loss[None]])).tolist()
        self.reset()
        self.counted(images)
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


class Classifier(TaskModule):
    """A network trained on single-label images.

    Args:
        net: from (N, C, H, W) images to (N, num_classes) logits; in training also `WithAuxiliary`, whose auxiliary
            losses are trained on and not logged.
        optimizer, schedule: as for `TaskModule`.
        num_classes: with more than five, the top-5 error is counted as well.
        label_smoothing: part of each target that is spread over all classes (arXiv:1512.00567).
        mixup: parameter of the Beta distribution that pairs of images are mixed by (arXiv:1710.09412); 0 for none.
        seed: of what is drawn for that.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: MakeOptimizer,
        schedule: MakeSchedule,
        num_classes: int,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(net, optimizer, schedule, lambda part: Tally(top5=num_classes > 5))
        self.label_smoothing = label_smoothing
        self.mix = Mixup(mixup, num_classes, seed) if mixup else None

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        images, targets = (batch.images, None) if self.mix is None else self.mix(batch)
        logits, loss, trained_on = losses(self(images), batch.labels, targets, self.label_smoothing)
        self._observe(self.tally("train").add(logits, batch.labels, loss), len(batch.labels))
        return loss, trained_on

    def evaluate(self, name: str, batch: Batch) -> None:
        logits = self(batch.images)
        self.tally(name).add(logits, batch.labels, F.cross_entropy(logits, batch.labels))

    def tally(self, name: str) -> Tally:
        tally = self.measure(name)
        assert isinstance(tally, Tally)
        return tally


class Classification(Task):
    """One class for each image."""

    name = "classification"

    def network(self, net: nn.Module, data: "ImageData") -> nn.Module:
        return net

    def module(
        self,
        network: nn.Module,
        optimizer: MakeOptimizer,
        schedule: MakeSchedule,
        data: "ImageData",
        **recipe: Any,
    ) -> Classifier:
        return Classifier(network, optimizer, schedule, data.num_classes, **recipe)
