"""Localization: the class of an image's object, and its box, by a regression of its own for each class."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import box_iou

from resnet_lab.checks import check_positive
from resnet_lab.data.annotations import Annotation
from resnet_lab.data.batches import Batch
from resnet_lab.models.backbone import OnBackbone, freeze_normalization, split
from resnet_lab.tasks.module import Counts, MakeOptimizer, MakeSchedule, Reduce, TaskModule
from resnet_lab.tasks.task import Task

if TYPE_CHECKING:
    from resnet_lab.data import ImageData

OVERLAP = 0.5  # intersection over union from which a box is right, as in ILSVRC
GRID = 7  # cells of features in each direction, as for the regions of Fast R-CNN
WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of centre and size in a box's regression, those of Fast R-CNN
BETA = 1 / 9  # where the smooth L1 loss turns from a square to a line, torchvision's for detectors


class Localizer(OnBackbone):
    """From (N, C, H, W) images to logits (N, classes) and regressions (N, classes, 4), relative to the image."""

    def __init__(self, net: nn.Module, features: nn.Module, channels: int, hidden: int, num_classes: int) -> None:
        super().__init__(net)
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(GRID)
        self.head = TwoMLPHead(channels * GRID**2, hidden)
        self.predictor = FastRCNNPredictor(hidden, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, regressions = self.predictor(self.head(self.pool(self.features(images))))
        return logits, regressions.view(len(images), -1, 4)


class Localized(Counts):
    """How many images have the wrong class, or a box that overlaps the object's by less than half.

    `class_error` is the percentage with the wrong class alone, and `box_error` the one that is wrong with the true
    class given.
    """

    wrong_class: Tensor
    wrong_box: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("wrong_class", "wrong_box"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def add(self, misclassified: Tensor, misplaced: Tensor, misplaced_if_true: Tensor, loss: Tensor) -> Tensor:
        """Count images, given as three tensors (N,) bool; return how many are wrong."""
        wrong = (misclassified | misplaced).sum()
        self.images += len(misclassified)
        self.wrong += wrong
        self.wrong_class += misclassified.sum()
        self.wrong_box += misplaced_if_true.sum()
        self.loss += loss.detach().double() * len(misclassified)
        return wrong

    def compute_and_reset(self, reduce: Reduce) -> dict[str, float]:
        """Compute mean loss and errors in percent; see `Measure`."""
        sums = torch.stack([self.images, self.wrong, self.wrong_class, self.wrong_box]).double()
        images, wrong, wrong_class, wrong_box, loss = reduce(torch.cat([sums, self.loss[None]])).tolist()
        self.reset()
        self.counted(images)
        errors = {"error": wrong, "class_error": wrong_class, "box_error": wrong_box}
        return {"loss": loss / images} | {key: 100 * count / images for key, count in errors.items()}


class LocalizerModule(TaskModule):
    """A network trained on the class and the box of one object in each image.

    The loss is the cross-entropy of the classes, and Fast R-CNN's of the box, for the true class alone.
    """

    def __init__(self, net: nn.Module, optimizer: MakeOptimizer, schedule: MakeSchedule) -> None:
        super().__init__(net, optimizer, schedule, lambda part: Localized())
        self.coder = BoxCoder(WEIGHTS)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        loss, wrong = self._count("train", batch)
        self._observe(wrong, len(batch.labels))
        return loss, loss

    def evaluate(self, name: str, batch: Batch) -> None:
        self._count(name, batch)

    def found(self, images: Any) -> list[Annotation]:
        logits, regressions = self(images)
        labels = logits.argmax(1)
        of_taken = regressions[torch.arange(len(labels)), labels].float()
        boxes = self.coder.decode_single(of_taken, whole_images(images))
        return [{"boxes": box[None], "labels": label[None]} for box, label in zip(boxes, labels, strict=True)]

    def _count(self, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
        logits, regressions = self(batch.images)
        labels, boxes = objects_of(batch)
        whole = whole_images(batch.images)
        each = torch.arange(len(labels), device=labels.device)
        goal = self.coder.encode_single(boxes, whole)
        of_true = regressions[each, labels].float()
        loss = F.cross_entropy(logits, labels) + F.smooth_l1_loss(of_true, goal, beta=BETA, reduction="sum") / len(
            labels
        )
        taken = logits.argmax(1)
        found = (regressions[each, taken].float(), of_true)
        placed, placed_if_true = (self.coder.decode_single(regression.detach(), whole) for regression in found)
        measure = self.measure(name)
        assert isinstance(measure, Localized)
        return loss, measure.add(taken != labels, misplaced(placed, boxes), misplaced(placed_if_true, boxes), loss)


def objects_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """The classes (N,) and boxes (N, 4) of the one object in each image."""
    return (
        torch.cat([annotation["labels"] for annotation in batch.annotations]),
        torch.cat([annotation["boxes"] for annotation in batch.annotations]),
    )


def whole_images(images: Tensor) -> Tensor:
    """The boxes (N, 4) of the images themselves."""
    height, width = images.shape[-2:]
    return torch.tensor([0.0, 0.0, width, height], device=images.device).expand(len(images), 4)


def misplaced(boxes: Tensor, true: Tensor) -> Tensor:
    """Whether each box (N, 4) overlaps the true one by less than half: (N,) bool."""
    overlaps: Tensor = box_iou(boxes, true).diagonal()
    return overlaps < OVERLAP


class Localization(Task):
    """The class and the box of one object in each image.

    As in the paper's appendix on ImageNet localization, each class has a regression of its own (reference 41);
    here it is relative to the image, and not to proposals.

    Args:
        hidden: width of the two linear layers between features and predictions.
        stride: of the features on the image in pixels at most; None for all layers but the head.
        frozen_norm: whether the backbone's batch normalization stays as in the given weights.

    Raises:
        ValueError: `hidden` is not a positive integer.
    """

    name = "localization"

    def __init__(self, hidden: int = 1024, stride: int | None = 16, frozen_norm: bool = False) -> None:
        check_positive(hidden=hidden)
        self.hidden, self.stride, self.frozen_norm = hidden, stride, frozen_norm

    def network(self, net: nn.Module, data: "ImageData") -> nn.Module:
        backbone = split(net, self.stride, data.in_channels)
        if self.frozen_norm:
            freeze_normalization(backbone.features)
        return Localizer(net, backbone.features, backbone.channels, self.hidden, data.num_classes)

    def module(
        self,
        network: nn.Module,
        optimizer: MakeOptimizer,
        schedule: MakeSchedule,
        data: "ImageData",
        **recipe: Any,
    ) -> LocalizerModule:
        return LocalizerModule(network, optimizer, schedule)
