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
# Of centre and size in a box's regression. Fast R-CNN enlarges them, as proposals lie close to their objects; here
# they are relative to the whole image.
WEIGHTS = (1.0, 1.0, 1.0, 1.0)
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

    `error_top5` is the percentage where none of the five likeliest classes with their boxes is right, ILSVRC's
    measure; it is there with more than five classes. `class_error` is that of the class alone, and `box_error`
    that of the box with the true class given.
    """

    wrong_top5: Tensor
    wrong_class: Tensor
    wrong_box: Tensor

    def __init__(self, top5: bool) -> None:
        super().__init__()
        self.top5 = top5
        for name in ("wrong_top5", "wrong_class", "wrong_box"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor, misplaced: Tensor, mean_loss: Tensor) -> Tensor:
        """Count a batch of logits (N, classes) and labels (N,); return the number of wrong ones.

        `misplaced` (N,) bool says whether the box of the true class is wrong, as that of any other is no matter.
        """
        misclassified = logits.argmax(1) != labels
        wrong = (misclassified | misplaced).sum()
        self.images += len(labels)
        self.wrong += wrong
        self.wrong_class += misclassified.sum()
        self.wrong_box += misplaced.sum()
        self.loss += mean_loss.double() * len(labels)
        if self.top5:
            among_five = (logits.topk(5).indices == labels[:, None]).any(1)
            self.wrong_top5 += (~among_five | misplaced).sum()
        return wrong

    def compute_and_reset(self, reduce: Reduce) -> dict[str, float]:
        """Compute mean loss and errors in percent; see `Measure`."""
        counts = {"error": self.wrong, "class_error": self.wrong_class, "box_error": self.wrong_box}
        counts |= {"error_top5": self.wrong_top5} if self.top5 else {}
        sums = torch.stack([self.images, *counts.values()]).double()
        images, *wrong, loss = reduce(torch.cat([sums, self.loss[None]])).tolist()
        self.reset()
        self.counted(images)
        return {"loss": loss / images} | {key: 100 * n / images for key, n in zip(counts, wrong, strict=True)}


class LocalizerModule(TaskModule):
    """A network trained on the class and the box of one object in each image.

    The loss is the cross-entropy of the classes, and Fast R-CNN's of the box, for the true class alone.
    """

    def __init__(self, net: nn.Module, optimizer: MakeOptimizer, schedule: MakeSchedule, num_classes: int) -> None:
        super().__init__(net, optimizer, schedule, lambda part: Localized(top5=num_classes > 5))
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
        of_taken = regressions[torch.arange(len(labels), device=labels.device), labels].float()
        boxes = self.coder.decode_single(of_taken, whole_images(images))
        return [{"boxes": box[None], "labels": label[None]} for box, label in zip(boxes, labels, strict=True)]

    def _count(self, name: str, batch: Batch) -> tuple[Tensor, Tensor]:
        logits, regressions = self(batch.images)
        labels, boxes = objects_of(batch)
        whole = whole_images(batch.images)
        regression = regressions[torch.arange(len(labels), device=labels.device), labels].float()
        goal = self.coder.encode_single(boxes, whole)
        of_boxes = F.smooth_l1_loss(regression, goal, beta=BETA, reduction="sum") / len(labels)
        loss = F.cross_entropy(logits, labels) + of_boxes
        placed = self.coder.decode_single(regression.detach(), whole)
        measure = self.measure(name)
        assert isinstance(measure, Localized)
        return loss, measure.add(logits, labels, misplaced(placed, boxes), loss.detach())


def objects_of(batch: Batch) -> tuple[Tensor, Tensor]:
    """The classes (N,) and boxes (N, 4) of the one object in each image."""
    return (
        torch.cat([annotation["labels"] for annotation in batch.annotations]),
        torch.cat([annotation["boxes"] for annotation in batch.annotations]),
    )


def whole_images(images: Tensor) -> Tensor:
    """The boxes (N, 4) of the images themselves."""
    height, width = images.shape[-2:]
    corners = torch.zeros(4, device=images.device)
    corners[2], corners[3] = width, height  # filled on the device: a tensor made from a list would wait for it
    return corners.expand(len(images), 4)


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
        check_positive(hidden=hidden, stride=1 if stride is None else stride)
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
        return LocalizerModule(network, optimizer, schedule, data.num_classes)
