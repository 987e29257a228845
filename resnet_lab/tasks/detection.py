"""Object detection by torchvision's Faster R-CNN, and its mean average precision."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.detection import MeanAveragePrecision
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from resnet_lab.checks import check_choice, check_positive
from resnet_lab.data.annotations import Annotation
from resnet_lab.data.batches import Batch
from resnet_lab.models.backbone import Backbone, OnBackbone, freeze_normalization, split
from resnet_lab.tasks.module import Counts, MakeOptimizer, MakeSchedule, Measure, Reduce, TaskModule
from resnet_lab.tasks.task import Task

if TYPE_CHECKING:
    from resnet_lab.data import ImageData

GRID = 7  # cells of a region's features in each direction
REGION_HEADS = ("mlp", "rest")
SURE = 0.5  # the score from which a box is drawn
# COCO's, in double precision: torchmetrics' own are rounded, and a recall of 0.3 would be below its 0.3
OVERLAPS, RECALLS = np.linspace(0.5, 0.95, 10).tolist(), np.linspace(0, 1, 101).tolist()
SIZES = ("small", "medium", "large")  # below 32x32 pixels, below 96x96, and above, as COCO's, but of boxes


class Sampled(RoIHeads):  # type: ignore[misc]
    """torchvision's heads, which also keep what the regions sampled in training are, and are taken for.

    Both are (regions,) int64: 0 for the background, else 1 + class.
    """

    true: Tensor
    taken: Tensor

    def select_training_samples(self, *given: Any) -> Any:
        sampled = super().select_training_samples(*given)
        self.true = torch.cat(sampled[2])
        return sampled

    def forward(self, *given: Any) -> Any:
        def keep(module: nn.Module, _: Any, output: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
            self.taken = output[0].detach().argmax(1)
            return tuple(map(precise, output))

        with self.box_predictor.register_forward_hook(keep):
            return super().forward(*given)


def precise(numbers: Tensor) -> Tensor:
    """In float32 at least: torchvision computes boxes in the precision of what is predicted, and coordinates in
    16 bits are rounded to several pixels."""
    return numbers.float() if numbers.itemsize < torch.float32.itemsize else numbers


class PreciseHead(RPNHead):  # type: ignore[misc]
    """torchvision's, in any precision of the Trainer."""

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        scores, boxes = super().forward(features)
        return list(map(precise, scores)), list(map(precise, boxes))


class FasterRCNN(OnBackbone):
    """In training from images and targets to the losses by name, else from images to the boxes found.

    Images are (N, C, H, W), or a list of (C, h, w). Targets are torchvision's, with classes from 1. Boxes found
    are, for each image, a dict with `boxes` (m, 4) in its pixels, `labels` (m,) from 1 and `scores` (m,).
    """

    def __init__(self, net: nn.Module, detector: GeneralizedRCNN) -> None:
        super().__init__(net)
        self.detector = detector

    def forward(self, images: Any, targets: list[dict[str, Tensor]] | None = None) -> Any:
        return self.detector(list(images), targets)

    @property
    def exported(self) -> nn.Module:
        detector: nn.Module = self.detector
        return detector

    @property
    def counted(self) -> nn.Module:
        """The features: what follows depends on the regions."""
        features: nn.Module = self.detector.backbone
        return features

    def compile(self, *how: Any, **more: Any) -> None:
        """Compile the features alone; shapes in the heads change with every image."""
        self.detector.backbone.compile(*how, **more)


class Regions(Counts):
    """How many of the regions sampled in training are taken for another class, or for the background."""

    regions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("regions", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def add(self, images: int, true: Tensor, taken: Tensor, mean_loss: Tensor) -> Tensor:
        wrong = (true != taken).sum()
        self.images += images
        self.regions += len(true)
        self.wrong += wrong
        self.loss += mean_loss.double() * images
        return wrong

    def error_so_far(self) -> float | None:
        regions, wrong = torch.stack([self.regions, self.wrong]).tolist()
        return 100 * wrong / regions if regions else None

    def compute_and_reset(self, reduce: Reduce) -> dict[str, float]:
        """Compute the mean loss per image, and the error in percent of the regions; see `Measure`."""
        sums = torch.stack([self.images, self.regions, self.wrong]).double()
        images, regions, wrong, loss = reduce(torch.cat([sums, self.loss[None]])).tolist()
        self.reset()
        self.counted(images)
        return {"loss": loss / images, "error": 100 * wrong / regions}


class OfAllProcesses(MeanAveragePrecision):
    """torchmetrics', which would gather image by image, and fail where some process has more of them."""

    def _sync_dist(self, *_: Any, **__: Any) -> None:
        own = {name: [tensor.cpu() for tensor in getattr(self, name)] for name in self._reductions}
        of_each: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(of_each, own)
        for name in own:
            # in the order of the images, in which scores that are equal count
            turns = zip_longest(*(states[name] for states in of_each))
            setattr(self, name, [tensor for turn in turns for tensor in turn if tensor is not None])


class AveragePrecision(Measure):
    """Mean average precision in percent, as COCO defines it, by torchmetrics.

    The `error` is 100 less `map_50`, the one of boxes that overlap an object's by half. `map` is the mean over
    overlaps from 0.5 to 0.95; `map_small` and its like are those of objects whose boxes have a size (COCO takes
    the area of the outline), where there are any. With `of_classes` there is one for each class that is annotated,
    too.
    """

    def __init__(self, of_classes: bool) -> None:
        super().__init__()
        self.of_classes = of_classes
        self.precision = OfAllProcesses(
            iou_thresholds=OVERLAPS, rec_thresholds=RECALLS, class_metrics=of_classes, backend="faster_coco_eval"
        )
        self.precision.warn_on_many_detections = False

    def reset(self) -> None:
        super().reset()
        self.precision.reset()

    def add(self, found: list[dict[str, Tensor]], annotations: Sequence[Annotation]) -> None:
        self.images += len(found)
        self.precision.update(
            [f | {"labels": f["labels"] - 1, "scores": f["scores"].float()} for f in found],
            [{"boxes": a["boxes"], "labels": a["labels"], "iscrowd": a["left_out"].long()} for a in annotations],
        )

    def compute_and_reset(self, reduce: Reduce) -> dict[str, float]:
        """Compute over the images of all processes; see `Measure`."""
        self.counted(reduce(self.images.double()).item())
        found = self.precision.compute()
        self.reset()
        of_sizes = {f"map_{size}": found[f"map_{size}"] for size in SIZES if found[f"map_{size}"] >= 0}
        of_classes = zip(found["classes"].view(-1).tolist(), found["map_per_class"].view(-1), strict=True)
        named = {f"map_class_{label}": ap for label, ap in of_classes if ap >= 0} if self.of_classes else {}
        values = {"map_50": found["map_50"], "map": found["map"]} | of_sizes | named
        percent = {name: 100 * max(value.item(), 0.0) for name, value in values.items()}
        return {"error": 100 - percent["map_50"]} | percent


class Detector(TaskModule):
    """A detector trained on the sum of its losses: of the proposals' objectness and boxes, of the regions' classes
    and boxes.

    In training the `error` is that of the sampled regions; in evaluations it is 100 less the mean average
    precision in percent, and there is no loss.
    """

    net: FasterRCNN

    def __init__(self, net: nn.Module, optimizer: MakeOptimizer, schedule: MakeSchedule) -> None:
        super().__init__(net, optimizer, schedule, measure_of)

    def losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        loss = torch.stack(list(self.net(batch.images, targets_of(batch.annotations)).values())).sum()
        measure, heads = self.measure("train"), self.net.detector.roi_heads
        assert isinstance(measure, Regions)
        wrong = measure.add(len(batch.labels), heads.true, heads.taken, loss.detach())
        self._observe(wrong, len(heads.true))
        return loss, loss

    def evaluate(self, name: str, batch: Batch) -> None:
        measure = self.measure(name)
        assert isinstance(measure, AveragePrecision)
        measure.add(self(batch.images), batch.annotations)

    def found(self, images: Any) -> list[Annotation]:
        """The boxes whose score is at least `SURE`."""
        kept = [(boxes, boxes["scores"] >= SURE) for boxes in self(images)]
        return [{"boxes": f["boxes"][sure], "labels": f["labels"][sure] - 1} for f, sure in kept]


def measure_of(part: str) -> Measure:
    return Regions() if part == "train" else AveragePrecision(of_classes=part == "test")


def targets_of(annotations: Sequence[Annotation]) -> list[dict[str, Tensor]]:
    """Annotations as torchvision's detectors take them in training, without the objects that are left out."""
    counted = [(annotation, ~annotation["left_out"]) for annotation in annotations]
    return [{"boxes": a["boxes"][kept], "labels": 1 + a["labels"][kept]} for a, kept in counted]


class Detection(Task):
    """The boxes of all objects and their classes, by Faster R-CNN on one level of features.

    Args:
        stride: of the features on the image in pixels at most; None for all layers but the head.
        region_head: what judges a region, mlp (two linear layers) or rest (the layers of the net after the
            features, as in the paper's appendix, which are VGG's linear layers).
        hidden: width of the two linear layers.
        anchor_sizes: sides of the anchors in pixels.
        aspect_ratios: heights of the anchors over their widths.
        proposals: regions kept per image.
        sampled_anchors, sampled_regions: how many of them each image trains on.
        detections: boxes kept per image at most.
        shorter_side, longest_side: to which images are resized, in pixels; None for images of one size as
            they are.
        frozen_norm: whether the backbone's batch normalization stays as in the given weights.

    Raises:
        ValueError: a setting is out of its range.
    """

    name = "detection"

    def __init__(
        self,
        stride: int | None = 16,
        region_head: str = "mlp",
        hidden: int = 1024,
        anchor_sizes: Sequence[int] = (32, 64, 128, 256, 512),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        proposals: int = 300,
        sampled_anchors: int = 256,
        sampled_regions: int = 128,
        detections: int = 100,
        shorter_side: int | None = None,
        longest_side: int | None = None,
        frozen_norm: bool = False,
    ) -> None:
        pixels = {"stride": stride, "shorter_side": shorter_side, "longest_side": longest_side}
        check_choice("region_head", region_head, REGION_HEADS)
        check_positive(hidden=hidden, proposals=proposals, detections=detections)
        check_positive(sampled_anchors=sampled_anchors, sampled_regions=sampled_regions)
        check_positive(**{name: number for name, number in pixels.items() if number is not None})
        for anchors, numbers in {"anchor_sizes": anchor_sizes, "aspect_ratios": aspect_ratios}.items():
            if not numbers or min(numbers) <= 0:
                raise ValueError(f"{anchors} must be a list of numbers above 0, got {list(numbers)}")
        self.stride, self.region_head, self.hidden = stride, region_head, hidden
        self.anchors = AnchorGenerator((tuple(anchor_sizes),), (tuple(aspect_ratios),))
        self.proposals, self.detections = proposals, detections
        self.sampled_anchors, self.sampled_regions = sampled_anchors, sampled_regions
        if (shorter_side is None) != (longest_side is None):
            raise ValueError(
                f"shorter_side and longest_side go together, got {shorter_side} and {longest_side}; give both"
            )
        self.sides = (shorter_side, longest_side)
        self.frozen_norm = frozen_norm

    def network(self, net: nn.Module, data: "ImageData") -> nn.Module:
        backbone = split(net, self.stride, data.in_channels)
        if self.frozen_norm:
            freeze_normalization(backbone.features)
            freeze_normalization(backbone.rest)
        shorter, longest = (side or data.image_size for side in self.sides)
        # the images are normalized already
        unchanged = [0.0] * data.in_channels, [1.0] * data.in_channels
        transform = GeneralizedRCNNTransform(shorter, longest, *unchanged)
        proposals, regions = self._proposals(backbone), self._regions(backbone, 1 + data.num_classes)
        return FasterRCNN(net, GeneralizedRCNN(backbone.features, proposals, regions, transform))

    def module(
        self,
        network: nn.Module,
        optimizer: MakeOptimizer,
        schedule: MakeSchedule,
        data: "ImageData",
        **recipe: Any,
    ) -> Detector:
        return Detector(network, optimizer, schedule)

    def _proposals(self, backbone: Backbone) -> Any:
        """The region proposal network (arXiv:1506.01497), with torchvision's thresholds."""
        kept = dict.fromkeys(("training", "testing"), self.proposals)
        before = {name: 10 * count for name, count in kept.items()}  # the suppression of overlapping ones
        head = PreciseHead(backbone.channels, self.anchors.num_anchors_per_location()[0])
        return RegionProposalNetwork(
            self.anchors,
            head,
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=self.sampled_anchors,
            positive_fraction=0.5,
            pre_nms_top_n=before,
            post_nms_top_n=kept,
            nms_thresh=0.7,
        )

    def _regions(self, backbone: Backbone, classes: int) -> Any:
        """The heads on regions (arXiv:1504.08083), with torchvision's thresholds."""
        head: nn.Module = backbone.rest
        width = backbone.rest_channels
        if self.region_head == "mlp":
            head, width = TwoMLPHead(backbone.channels * GRID**2, self.hidden), self.hidden
        return Sampled(
            MultiScaleRoIAlign(["0"], GRID, sampling_ratio=2),
            head,
            FastRCNNPredictor(width, classes),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=self.sampled_regions,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=0.05,
            nms_thresh=0.5,
            detections_per_img=self.detections,
        )
