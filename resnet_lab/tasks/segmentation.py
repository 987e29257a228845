"""Semantic segmentation: a class for each pixel, by torchvision's heads."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.segmentation.deeplabv3 import DeepLabHead
from torchvision.models.segmentation.fcn import FCNHead

from resnet_lab.checks import check_choice, check_positive
from resnet_lab.data.annotations import UNKNOWN, Annotation
from resnet_lab.data.batches import Batch
from resnet_lab.models.backbone import OnBackbone, freeze_normalization, split
from resnet_lab.tasks.module import Counts, MakeOptimizer, MakeSchedule, Reduce, TaskModule
from resnet_lab.tasks.task import Task

if TYPE_CHECKING:
    from resnet_lab.data import ImageData

HEADS = {"fcn": FCNHead, "deeplab": DeepLabHead}


class PixelClassifier(OnBackbone):
    """From (N, C, H, W) images to logits (N, 1 + num_classes, H, W), the first of them the background's.

    The logits of the head are enlarged to the size of the images.
    """

    def __init__(self, net: nn.Module, features: nn.Module, head: nn.Module) -> None:
        super().__init__(net)
        self.features, self.head = features, head

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(self.features(images))
        return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)


class Confusion(Counts):
    """Which pixels were taken for what.

    The `error` is 100 less the mean intersection over union, in percent, over the classes and the background that
    occur in the annotation or in the prediction. `pixel_error` is the percentage of wrong pixels.
    """

    pixels: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("pixels", torch.zeros(classes, classes, dtype=torch.int64))

    @torch.no_grad()
    def add(self, logits: Tensor, masks: Tensor, mean_loss: Tensor) -> tuple[Tensor, int]:
        """Count a batch of logits (N, classes, H, W) and masks (N, H, W); return how many are wrong, and of how
        many pixels."""
        known = masks != UNKNOWN
        true, taken = masks[known], logits.argmax(1)[known]
        classes = len(self.pixels)
        found = torch.bincount(true * classes + taken, minlength=classes**2).view(classes, classes)
        self.pixels += found
        self.images += len(masks)
        wrong = found.sum() - found.diagonal().sum()
        self.wrong += wrong
        self.loss += mean_loss.double() * len(masks)
        return wrong, len(true)

    def error_so_far(self) -> float | None:
        return measures_of(self.pixels.double())["error"] if self.images else None

    def compute_and_reset(self, reduce: Reduce) -> dict[str, float]:
        """Compute mean loss and errors in percent; see `Measure`."""
        sums = torch.cat([self.images[None].double(), self.loss[None], self.pixels.double().flatten()])
        images, loss, *_ = whole = reduce(sums)
        self.reset()
        self.counted(images.item())
        return {"loss": (loss / images).item()} | measures_of(whole[2:].view_as(self.pixels))


def measures_of(pixels: Tensor) -> dict[str, float]:
    """The errors in percent that follow from a confusion matrix, true classes by predicted ones."""
    right = pixels.diagonal()
    union = pixels.sum(0) + pixels.sum(1) - right
    mean = (right[union > 0] / union[union > 0]).mean()
    return {
        "error": 100 * (1 - mean.item()),
        "pixel_error": 100 * (1 - (right.sum() / pixels.sum()).item()),
    }


class Segmenter(TaskModule):
    """A network trained on masks, by the cross-entropy of each pixel.

    Args:
        net: from (N, C, H, W) images to logits (N, classes, H, W).
        optimizer, schedule: as for `TaskModule`.
        classes: their number, with the background.
    """

    def __init__(self, net: nn.Module, optimizer: MakeOptimizer, schedule: MakeSchedule, classes: int) -> None:
        super().__init__(net, optimizer, schedule, lambda part: Confusion(classes))

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return (loss := self._count("train", batch)), loss

    def evaluate(self, name: str, batch: Batch) -> None:
        self._count(name, batch)

    def found(self, images: Any) -> list[Annotation]:
        return [{"mask": mask} for mask in self(images).argmax(1)]

    def _count(self, name: str, batch: Batch) -> Tensor:
        logits, masks = self(batch.images), masks_of(batch)
        loss = F.cross_entropy(logits, masks, ignore_index=UNKNOWN)
        measure = self.measure(name)
        assert isinstance(measure, Confusion)
        counted = measure.add(logits, masks, loss)
        if name == "train":
            self._observe(*counted)
        return loss


def masks_of(batch: Batch) -> Tensor:
    """The masks (N, H, W) int64 of a batch, whose images have one size."""
    return torch.stack([annotation["mask"] for annotation in batch.annotations]).long()


class Segmentation(Task):
    """A class for each pixel, from the last features of a net.

    Args:
        head: fcn (arXiv:1411.4038) or deeplab (arXiv:1706.05587).
        stride: of the features on the image in pixels at most; None for all layers but the head.
        frozen_norm: whether the backbone's batch normalization stays as in the given weights.

    Raises:
        ValueError: there is no such head.
    """

    name = "segmentation"

    def __init__(self, head: str = "fcn", stride: int | None = 16, frozen_norm: bool = False) -> None:
        check_choice("head", head, HEADS)
        check_positive(stride=1 if stride is None else stride)
        self.head, self.stride, self.frozen_norm = head, stride, frozen_norm

    def network(self, net: nn.Module, data: "ImageData") -> nn.Module:
        backbone = split(net, self.stride, data.in_channels)
        if self.frozen_norm:
            freeze_normalization(backbone.features)
        return PixelClassifier(net, backbone.features, HEADS[self.head](backbone.channels, 1 + data.num_classes))

    def module(
        self,
        network: nn.Module,
        optimizer: MakeOptimizer,
        schedule: MakeSchedule,
        data: "ImageData",
        **recipe: Any,
    ) -> Segmenter:
        return Segmenter(network, optimizer, schedule, 1 + data.num_classes)
