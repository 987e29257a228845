"""What the tasks measure, on cases whose answers are known, and a detector beside torchvision's own."""

import contextlib
import io
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from resnet_lab.data.annotations import UNKNOWN, Annotation
from resnet_lab.data.batches import Batch
from resnet_lab.models import resnet_cifar
from resnet_lab.tasks import Detection
from resnet_lab.tasks.detection import AveragePrecision, Detector, Regions, targets_of
from resnet_lab.tasks.localization import Localized, LocalizerModule, misplaced
from resnet_lab.tasks.segmentation import Confusion

Corners = Sequence[Sequence[float]]


def alone(sums: Tensor) -> Tensor:
    """The sum over one process."""
    return sums


def annotated(boxes: Corners, labels: Sequence[int], left_out: Sequence[int] = ()) -> Annotation:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "left_out": torch.tensor([number in left_out for number in range(len(labels))], dtype=torch.bool),
    }


def detected(boxes: Corners, labels: Sequence[int], scores: Sequence[float]) -> dict[str, Tensor]:
    """As a net finds them, whose classes begin at 1."""
    found = annotated(boxes, labels)
    return {"boxes": found["boxes"], "labels": 1 + found["labels"], "scores": torch.tensor(scores)}


def classified(taken: Tensor, classes: int) -> Tensor:
    """Logits (N, classes, ...) of which these are the largest."""
    return F.one_hot(taken, classes).movedim(-1, 1).float()


def test_segmentation_is_judged_by_the_union_of_each_class() -> None:
    """Pixels of classes 0, 0, 1 taken for 0, 1, 1: each class is right in one of two. Unknown ones are no matter,
    and neither is a class that is nowhere."""
    masks = torch.tensor([[[0, 0], [1, UNKNOWN]]])
    logits = classified(torch.tensor([[[0, 1], [1, 2]]]), 4)
    measure = Confusion(4)
    wrong, of = measure.add(logits, masks, torch.tensor(0.5))
    assert (int(wrong), of) == (1, 3)
    assert measure.error_so_far() == 50
    found = measure.compute_and_reset(alone)
    assert found == pytest.approx({"loss": 0.5, "error": 50, "pixel_error": 100 / 3})
    assert not any(buffer.any() for buffer in measure.buffers())


def test_a_class_found_where_there_is_none_counts_against_a_segmentation() -> None:
    """Union of class 1: four pixels, none right; of class 2: one pixel that is found for nothing."""
    measure = Confusion(3)
    measure.add(
        classified(torch.tensor([[[0, 0], [0, 2]]]), 3), torch.tensor([[[0, 1], [1, 1]]]), torch.tensor(0.0)
    )
    means = measure.compute_and_reset(alone)
    assert means["error"] == pytest.approx(100 * (1 - (1 / 3 + 0 + 0) / 3))
    assert means["pixel_error"] == 75


@pytest.mark.parametrize(("height", "wrong"), [(5.0, False), (4.999, True), (10.0, False), (0.0, True)])
def test_a_box_is_right_from_half_of_the_union(height: float, wrong: bool) -> None:
    true, placed = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 10, height]])
    assert misplaced(placed, true).tolist() == [wrong]


def localization_of_four() -> tuple[Tensor, Tensor, Tensor]:
    """Right; of another class; in another place; both, and not among the five likeliest either."""
    labels = torch.tensor([0, 1, 2, 3])
    logits = classified(torch.tensor([0, 9, 2, 9]), 10)
    logits[3] = torch.tensor([9.0, 8, 7, 0, 6, 5, 0, 0, 0, 0])
    return logits, labels, torch.tensor([False, False, True, True])


def test_localization_needs_the_class_and_the_box() -> None:
    logits, labels, wrong_box = localization_of_four()
    logits[1, 1] = 0.5  # the second likeliest
    measure = Localized(top5=True)
    assert int(measure.add(logits, labels, wrong_box, torch.tensor(2.0))) == 3
    assert measure.error_so_far() == 75
    means = measure.compute_and_reset(alone)
    assert means == {"loss": 2.0, "error": 75, "class_error": 50, "box_error": 50, "error_top5": 50}
    assert "error_top5" not in Localized(top5=False).compute_and_reset(lambda sums: sums + 1)


class Answers(nn.Module):
    """A net that answers with what it was given."""

    def __init__(self, *answers: Tensor) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.answers


def test_a_localizer_regresses_the_box_of_the_true_class_alone() -> None:
    """Boxes are relative to the image: nothing to regress for one as large, half its size is log 2 each way."""
    boxes = torch.tensor([[0.0, 0, 32, 16], [8, 4, 24, 12]])
    regressions = torch.full((2, 3, 4), 7.0)
    regressions[0, 1] = 0
    regressions[1, 2] = torch.tensor([0, 0, 0.5, 0.5]).log2().nan_to_num(neginf=0) * torch.tensor(2.0).log()
    logits = classified(torch.tensor([1, 2]), 3)
    annotations = [annotated([box.tolist()], [label]) for box, label in zip(boxes, (1, 2), strict=True)]
    batch = Batch(
        torch.zeros(2, 1, 16, 32), torch.tensor([1, 2]), torch.arange(2), 0, 1.0, annotations=annotations
    )
    module = LocalizerModule(Answers(logits, regressions), lambda _: None, lambda _: None, 3)  # type: ignore[arg-type,return-value]
    module.evaluate("val", batch)
    means = module.measure("val").compute_and_reset(alone)
    assert means["loss"] == pytest.approx(F.cross_entropy(logits, batch.labels).item(), rel=1e-6)
    assert (means["error"], means["class_error"], means["box_error"]) == (0, 0, 0)
    for found, box in zip(module.found(batch.images), boxes, strict=True):
        torch.testing.assert_close(found["boxes"], box[None])


def test_a_detector_is_trained_on_regions() -> None:
    measure = Regions()
    measure.add(2, torch.tensor([0, 0, 3, 1]), torch.tensor([0, 3, 3, 2]), torch.tensor(1.5))
    measure.add(1, torch.tensor([2]), torch.tensor([2]), torch.tensor(0.0))
    assert measure.error_so_far() == 40
    assert measure.compute_and_reset(alone) == {"loss": 1.0, "error": 40.0}


def test_average_precision_of_a_case_by_hand() -> None:
    """Class 0: one box exact, one that overlaps by 0.625, then one too many; class 1 is not found; class 2 is
    found where there is none. A box on an object that is left out is no matter."""
    measure = AveragePrecision(of_classes=True)
    measure.add(
        [
            detected([[0, 0, 10, 10], [50, 50, 60, 60], [70, 70, 80, 80]], [0, 0, 0], [0.9, 0.7, 0.95]),
            detected([[20, 20, 40, 32.5], [0, 0, 5, 5]], [0, 2], [0.8, 0.9]),
        ],
        [
            annotated([[0, 0, 10, 10], [70, 70, 80, 80]], [0, 0], left_out=[1]),
            annotated([[20, 20, 40, 40], [60, 60, 90, 90]], [0, 1]),
        ],
    )
    means = measure.compute_and_reset(alone)
    of_class_0 = 100 * (3 + 7 * 51 / 101) / 10  # to a recall of one half at overlaps above 0.6
    expected = {"error": 50, "map_50": 50, "map": of_class_0 / 2, "map_small": of_class_0 / 2}
    assert means == pytest.approx(expected | {"map_class_0": of_class_0, "map_class_1": 0}, abs=1e-4)
    assert not measure.precision.detection_box


def random_scene(random: torch.Generator) -> tuple[dict[str, Tensor], Annotation]:
    """Objects of all sizes, some left out, and boxes near most of them, some of another class."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random)

    corners, sides = 100 * uniform(7, 2), 8 + 140 * uniform(7, 2)
    boxes = torch.cat([corners, corners + sides], 1)
    labels = torch.randint(3, (7,), generator=random)
    left_out = uniform(7) < 0.2
    found = torch.cat([boxes + 7 * (uniform(7, 4) - 0.5), boxes[:2]])
    taken = torch.cat([torch.where(uniform(7) < 0.8, labels, (labels + 1) % 3), labels[:2]])
    return (
        {"boxes": found, "labels": 1 + taken, "scores": uniform(9)},
        {"boxes": boxes, "labels": labels, "left_out": left_out},
    )


def random_scenes(count: int) -> tuple[list[dict[str, Tensor]], list[Annotation]]:
    random = torch.Generator().manual_seed(0)
    found, true = zip(*(random_scene(random) for _ in range(count)), strict=True)
    return list(found), list(true)


def by_pycocotools(found: list[dict[str, Tensor]], true: list[Annotation]) -> dict[str, float]:
    def sized(box: Tensor) -> list[float]:
        x1, y1, x2, y2 = box.tolist()
        return [x1, y1, x2 - x1, y2 - y1]

    objects = [
        {"image_id": image, "category_id": int(label), "iscrowd": int(crowd)} | {"bbox": sized(box)}
        for image, of_image in enumerate(true)
        for box, label, crowd in zip(*(of_image[k] for k in ("boxes", "labels", "left_out")), strict=True)
    ]
    for number, entry in enumerate(objects, 1):
        entry |= {"id": number, "area": entry["bbox"][2] * entry["bbox"][3]}
    boxes = [
        {"image_id": image, "category_id": int(label) - 1, "score": float(score), "bbox": sized(box)}
        for image, of_image in enumerate(found)
        for box, label, score in zip(*(of_image[k] for k in ("boxes", "labels", "scores")), strict=True)
    ]
    truth = COCO()
    truth.dataset = {
        "images": [{"id": image} for image in range(len(true))],
        "annotations": objects,
        "categories": [{"id": label} for label in range(3)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        judged = COCOeval(truth, truth.loadRes(boxes), "bbox")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    names = ("map", "map_50", "", "map_small", "map_medium", "map_large")
    named = {name: 100 * value for name, value in zip(names, judged.stats, strict=False) if name}
    of_classes = judged.eval["precision"][:, :, :, 0, -1].mean((0, 1))
    return named | {f"map_class_{label}": 100 * value for label, value in enumerate(of_classes)}


def test_average_precision_is_that_of_pycocotools() -> None:
    found, true = random_scenes(30)
    measure = AveragePrecision(of_classes=True)
    for part in (slice(0, 12), slice(12, 30)):
        measure.add(found[part], true[part])
    means = measure.compute_and_reset(alone)
    expected = by_pycocotools(found, true)
    assert means == pytest.approx(expected | {"error": 100 - expected["map_50"]}, abs=1e-4)
    assert 5 < means["map_small"] < 95


def test_processes_have_their_boxes_judged_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images in one and two in the other, alternately; scores that are equal count in the images' order."""
    found, true = random_scenes(5)
    for each in found:
        each["scores"] = each["scores"].round(decimals=1)
    whole, *parts = (AveragePrecision(of_classes=True) for _ in range(3))
    whole.add(found, true)
    states: list[Any] = []
    for rank, part in enumerate(parts):
        part.add(found[rank::2], true[rank::2])
        states.append({name: list(getattr(part.precision, name)) for name in part.precision._reductions})

    def gathered(of_all: list[Any], own: Any) -> None:
        assert [len(own["detection_box"])] == [len(state["detection_box"]) for state in states if same(state, own)]
        of_all[:] = states

    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.all_gather_object", gathered)
    expected = whole.compute_and_reset(alone)
    for part in parts:
        part.precision._sync_dist()
        assert part.compute_and_reset(alone) == expected


def same(state: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(
        len(state[name]) == len(other[name]) and all(map(torch.equal, state[name], other[name])) for name in state
    )


def confusion_of(part: slice) -> Confusion:
    random = torch.Generator().manual_seed(0)
    logits, masks = torch.randn(5, 4, 6, 6, generator=random), torch.randint(5, (5, 6, 6), generator=random)
    masks[masks == 4] = UNKNOWN
    measure = Confusion(4)
    measure.add(logits[part], masks[part], torch.tensor(0.25))
    return measure


def localized_of(part: slice) -> Localized:
    logits, labels, wrong_box = localization_of_four()
    measure = Localized(top5=True)
    measure.add(logits[part], labels[part], wrong_box[part], torch.tensor(0.25))
    return measure


def regions_of(part: slice) -> Regions:
    measure, true, taken = Regions(), torch.arange(20).view(5, 4) % 3, torch.arange(20).view(5, 4) % 4
    measure.add(len(true[part]), true[part].flatten(), taken[part].flatten(), torch.tensor(0.25))
    return measure


@pytest.mark.parametrize("measured", [confusion_of, localized_of, regions_of])
def test_two_processes_agree_with_one(measured: Callable[[slice], Any]) -> None:
    """Sums are added before anything is divided."""
    here, elsewhere, sums = measured(slice(0, 3)), measured(slice(3, 5)), []
    elsewhere.compute_and_reset(lambda tensor: sums.append(tensor) or tensor)
    both = here.compute_and_reset(lambda tensor: tensor + sums[0])
    assert both == measured(slice(0, 5)).compute_and_reset(alone)


ANCHORS = {"anchor_sizes": (8, 16), "aspect_ratios": (0.5, 1.0, 2.0)}
LIMITS = {"proposals": 20, "sampled_anchors": 16, "sampled_regions": 8, "detections": 10}


def detector() -> Detector:
    torch.manual_seed(0)
    net = resnet_cifar(8, "A", in_channels=1, width=4)
    data: Any = SimpleNamespace(in_channels=1, image_size=32, num_classes=10)
    task = Detection(stride=4, hidden=16, **ANCHORS, **LIMITS)  # type: ignore[arg-type]
    module = task.module(task.network(net, data), torch.optim.SGD, lambda _: None, data)  # type: ignore[arg-type,return-value]
    module._observe = lambda wrong, counted: None  # type: ignore[method-assign]  # there is no schedule
    return module


def reference(state: dict[str, Tensor]) -> FasterRCNN:
    """torchvision's own detector of that kind, with these weights."""
    stem, *stages, _ = resnet_cifar(8, "A", in_channels=1, width=4).named_children()
    backbone: Any = nn.Sequential()
    for name, part in (stem, *stages):
        backbone.add_module(name, part)
    backbone.out_channels = 16
    net = FasterRCNN(
        backbone,
        min_size=32,
        max_size=32,
        image_mean=[0.0],
        image_std=[1.0],
        rpn_anchor_generator=AnchorGenerator(*(((sizes),) for sizes in ANCHORS.values())),
        **{f"rpn_pre_nms_top_n_{mode}": 200 for mode in ("train", "test")},
        **{f"rpn_post_nms_top_n_{mode}": 20 for mode in ("train", "test")},
        rpn_batch_size_per_image=16,
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
        box_head=TwoMLPHead(16 * 49, 16),
        box_predictor=FastRCNNPredictor(16, 11),
        box_batch_size_per_image=8,
        box_detections_per_img=10,
    )
    net.load_state_dict(state)
    return net


def test_boxes_are_in_float32_whatever_predicts_them() -> None:
    module = detector()
    images = four_images().images
    for training in (False, True):
        module.net.train(training)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            heads = module.net.detector.rpn.head([torch.randn(1, 16, 8, 8)])
            assert {tensor.dtype for part in heads for tensor in part} == {torch.float32}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = module.eval()(images)
    boxes = torch.cat([one["boxes"] for one in found])
    assert boxes.dtype == torch.float32
    assert not torch.equal(boxes, boxes.bfloat16().float()), "coordinates were rounded on their way"


def four_images() -> Batch:
    random = torch.Generator().manual_seed(0)
    annotations = [
        annotated([[2, 3, 14, 15], [12, 12, 28, 30]], [0, 9], left_out=[1]),
        annotated([[0, 0, 32, 32]], [4]),
        annotated([[5, 5, 13, 14]], [5], left_out=[0]),  # so that nothing is left
        annotated([[1, 1, 10, 12], [16, 16, 30, 30]], [3, 3]),
    ]
    images = torch.randn(4, 1, 32, 32, generator=random)
    return Batch(images, torch.zeros(4), torch.arange(4), 0, 1.0, annotations=annotations)


def test_a_detector_is_torchvisions() -> None:
    """The same losses from the same draws, and the same boxes, with its own class put together by hand."""
    ours, batch = detector(), four_images()
    theirs = reference(ours.net.detector.state_dict())
    torch.manual_seed(1)
    loss, trained_on = ours.losses(batch)
    torch.manual_seed(1)
    expected = theirs(list(batch.images), targets_of(batch.annotations))
    assert loss is trained_on
    assert loss == torch.stack(list(expected.values())).sum()
    assert min(expected.values()) > 0
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        found, same = ours(batch.images), theirs(list(batch.images))
    assert sum(len(each["boxes"]) for each in found) > 4
    for one, other in zip(found, same, strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("boxes", "labels", "scores"))


def test_a_detector_counts_the_regions_that_it_was_trained_on() -> None:
    ours, batch, seen = detector(), four_images(), {}
    ours.net.detector.roi_heads.box_predictor.register_forward_hook(lambda *given: seen.update(scores=given[2][0]))
    ours.losses(batch)
    heads, measure = ours.net.detector.roi_heads, ours.measure("train")
    assert torch.equal(heads.taken, seen["scores"].argmax(1))
    assert set(heads.true.tolist()) <= {0, 1, 5, 4}
    assert {1, 5, 4} & set(heads.true.tolist())
    assert int(measure.regions) == len(heads.true) == len(heads.taken)
    assert int(measure.wrong) == sum(
        a != b for a, b in zip(heads.true.tolist(), heads.taken.tolist(), strict=True)
    )


def test_boxes_of_another_size_are_given_in_the_images_own_pixels() -> None:
    """Images that are resized for the net: an image twice as large has the same boxes, twice as large."""
    torch.manual_seed(0)
    net = resnet_cifar(8, "A", in_channels=1, width=4)
    data: Any = SimpleNamespace(in_channels=1, image_size=32, num_classes=10)
    task = Detection(stride=4, hidden=16, shorter_side=32, longest_side=64, **ANCHORS, **LIMITS)  # type: ignore[arg-type]
    network = task.network(net, data).eval()
    small = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(small[None], size=(32, 32), mode="bilinear", align_corners=False)[0]
    with torch.no_grad():
        (of_small,), (of_large,) = network([small]), network([large])
    assert len(of_small["boxes"])
    torch.testing.assert_close(2 * of_small["boxes"], of_large["boxes"])
    together = network([small, torch.zeros(1, 20, 40)])
    assert [set(each) for each in together] == [{"boxes", "labels", "scores"}] * 2
