"""COCO in its own format: a small tree of two parts, whose boxes are known."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from samples import header_of_png
from torchvision.datasets import CocoDetection
from torchvision.transforms.functional import pil_to_tensor

from resnet_lab.checks import UserError
from resnet_lab.data import COCO
from resnet_lab.data.batches import Batch, Request

Refuse = Callable[..., str]
CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]
SIZES = {9: (60, 40), 4: (44, 52), 7: (50, 50), 139: (48, 56), 285: (40, 60)}
# by image: category, bbox, iscrowd
THINGS: dict[int, list[tuple[int, list[float], int]]] = {
    9: [(90, [1, 2, 30, 20], 0), (1, [0.5, 10.25, 59.5, 29.75], 0), (13, [5, 5, 8.5, 0.0], 0)],
    4: [(13, [0, 0, 44, 52], 1), (1, [3, 4, 5, 6], 0)],
    7: [(1, [3, 4, 5, 6], 1)],
    139: [(90, [10, 10, 20.5, 30.25], 0), (1, [10, 10, 5, 0], 0)],
    285: [],
}
PARTS = {"train2017": [9, 4, 7], "val2017": [139, 285]}


def contents(part: str) -> dict[str, Any]:
    images = [
        {"id": number, "file_name": f"{number:012}.jpg", "width": SIZES[number][0], "height": SIZES[number][1]}
        for number in PARTS[part]
    ]
    annotations = [
        {"image_id": n, "category_id": category, "bbox": box, "iscrowd": crowd, "segmentation": [[1, 2, 3, 4]]}
        | {"area": box[2] * box[3]}
        for n in PARTS[part]
        for category, box, crowd in THINGS[n]
    ]
    for number, annotation in enumerate(annotations):
        annotation["id"] = 100 + number
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    (tmp_path / "coco/annotations").mkdir(parents=True)
    for part, numbers in PARTS.items():
        (tmp_path / "coco" / part).mkdir()
        for number in numbers:
            small = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
            Image.fromarray(small).resize(SIZES[number]).save(tmp_path / f"coco/{part}/{number:012}.jpg")
        file_of(tmp_path / "coco", part).write_text(json.dumps(contents(part)))
    return tmp_path / "coco"


def file_of(root: Path, part: str = "val2017") -> Path:
    return root / f"annotations/instances_{part}.json"


def coco(root: Path, **settings: Any) -> COCO:
    usual: dict[str, Any] = {"train": ["train2017"], "test": ["val2017"], "num_classes": 3, "num_workers": 0}
    data = COCO(root=str(root), **usual | {"mean": [0.0, 0.0, 0.0], "batch_size": 1} | settings)
    data.prepare()
    return data


def batch_of(data: COCO, part: str = "test") -> Batch:
    of_part = data.test if part == "test" else data.train_images()
    return data.dataset(of_part)[Request(torch.arange(len(of_part.labels)), 0, 1.0)]


def test_boxes_are_corners_and_classes_the_categories_in_order(root: Path) -> None:
    data = coco(root)
    first, second = batch_of(data, "train").annotations
    assert data.classes == ("person", "stop sign", "toothbrush")
    assert first["boxes"].tolist() == [[1, 2, 31, 22], [0.5, 10.25, 60, 40]]
    assert first["labels"].tolist() == [2, 0]
    assert second["left_out"].tolist() == [True, False]
    assert [tensor.dtype for tensor in first.values()] == [torch.float32, torch.int64, torch.bool]
    assert batch_of(data, "train").labels.tolist() == [0, 1]  # of the largest


def test_evaluation_has_every_image_and_every_box(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        data = coco(root)
    assert "1 box(es) of no area are left out of the training" in caplog.text
    assert "1 image(s) without an object that counts are left out of the training" in caplog.text
    first, empty = batch_of(data).annotations
    assert first["boxes"].tolist() == [[10, 10, 30.5, 40.25], [10, 10, 15, 10]]
    assert empty["boxes"].shape == (0, 4)


def test_it_is_what_torchvision_reads(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = batch_of(coco(root, train=["val2017"], test=["train2017"]))
    assert not capsys.readouterr().out
    reference = CocoDetection(str(root / "train2017"), str(file_of(root, "train2017")))
    numbers = {category["name"]: category["id"] for category in CATEGORIES}
    classes = [numbers[name] for name in coco(root).classes]
    assert reference.ids == sorted(PARTS["train2017"])
    for image_id, (image, target) in zip(reference.ids, reference, strict=True):
        place = PARTS["train2017"].index(image_id)
        assert (batch.images[place].int() - pil_to_tensor(image).int()).abs().max() <= 2  # of two decoders
        annotation = batch.annotations[place]
        x1, y1, x2, y2 = annotation["boxes"].unbind(1)
        assert torch.stack([x1, y1, x2 - x1, y2 - y1], 1).tolist() == [entry["bbox"] for entry in target]
        assert [classes[label] for label in annotation["labels"]] == [entry["category_id"] for entry in target]
        assert annotation["left_out"].tolist() == [bool(entry["iscrowd"]) for entry in target]


def test_loader_processes_change_nothing(root: Path) -> None:
    alone, helped = (
        [data.ready(batch, training=True) for loader in loaders(data) for batch in loader]
        for data in (coco(root, flip=True, num_workers=n) for n in (0, 2))
    )
    assert len(alone) == len(helped) == 3
    for one, other in zip(alone, helped, strict=True):
        assert all(map(torch.equal, one.images, other.images))
        for annotation, same in zip(one.annotations, other.annotations, strict=True):
            assert all(torch.equal(annotation[key], same[key]) for key in annotation | same)


def loaders(data: COCO) -> list[Any]:
    return [data.train_dataloader(), data.test_dataloader()[0]]


def test_several_parts_are_trained_on_together(root: Path) -> None:
    shutil.copytree(root / "val2017", root / "mine")
    shutil.copy(file_of(root), file_of(root, "mine"))
    data = coco(root, train=["train2017", "val2017"], test=["mine"])  # ids of one's own may be those of COCO's
    assert len(data.train_images().labels) == 3
    assert len(data.test.labels) == 2


def changed(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = contents("val2017")
    change(content)
    file_of(root).write_text(json.dumps(content))


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no annotations": (lambda c: c.pop("annotations"), r"must have a list of annotations, as COCO's"),
    "no list": (lambda c: c.update(images={}), r"must have a list of images"),
    "unknown image": (
        lambda c: c["annotations"][0].update(image_id=5),
        r"annotation 100 is of image_id=5, which is not among the images",
    ),
    "unhashable image": (
        lambda c: c["annotations"][0].update(image_id=[5]),
        r"is of image_id=\[5\]",
    ),
    "unknown category": (
        lambda c: c["annotations"][0].update(category_id=2),
        r"annotation 100 has category_id=2, which is not among the categories",
    ),
    "same id": (
        lambda c: c["annotations"][1].update(id=100),
        r"two of the annotations have id 100",
    ),
    "same image": (lambda c: c["images"][1].update(id=139), r"two of the images have id 139; ids must differ"),
    "no id": (
        lambda c: c["annotations"][1].pop("id"),
        r"annotations\[1\] must have an integer .* None",
    ),
    "not an entry": (lambda c: c["images"].append(3), r"images\[2\] must have an integer as its id"),
    "short box": (
        lambda c: c["annotations"][0].update(bbox=[1, 2, 3]),
        r"annotation 100 must have a bbox of x",
    ),
    "negative width": (lambda c: c["annotations"][0].update(bbox=[1, 2, -3, 1]), r"bbox .*, got \[1, 2, -3, 1\]"),
    "nan": (lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 1]), r"bbox .*, got \[1, 2, nan, 1\]"),
    "huge": (lambda c: c["annotations"][0].update(bbox=[1, 2, 10**400, 1]), r"annotation 100 must have a bbox"),
    "outside": (
        lambda c: c["annotations"][0].update(bbox=[40, 2, 10, 1]),
        r"annotation 100 has bbox \[40, 2, 10, 1\], which does not lie in its image of 48x56 pixels",
    ),
    "crowd": (lambda c: c["annotations"][0].update(iscrowd="no"), r"annotation 100 must have iscrowd 0 or 1, got"),
    "no size": (lambda c: c["images"][0].pop("width"), r"image 139 must have a width and a height in pixels"),
    "elsewhere": (
        lambda c: c["images"][0].update(file_name="../annotations/x.jpg"),
        r"image 139 must have a file_name inside its folder, got '\.\./annotations/x\.jpg'",
    ),
    "absolute": (lambda c: c["images"][0].update(file_name="/etc/passwd"), r"file_name inside its folder"),
    "no such file": (
        lambda c: c["images"][0].update(file_name="x.jpg"),
        r"x\.jpg is not there, and .*json",
    ),
    "fewer classes": (
        lambda c: c.update(categories=c["categories"][1:]),
        r"has 2 categories.*num_classes=2",
    ),
    "other classes": (
        lambda c: c.update(categories=[{"id": n, "name": "x"} for n in (1, 13, 90)]),
        r"the categories in .*val2017\.json are not those of the part before it",
    ),
    "in training, too": (
        lambda c: c["images"][0].update(id=9) or c["annotations"].clear(),
        r"image 9 \(000000000139\.jpg\) is in train2017 and in val2017",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_annotations_are_named(root: Path, name: str) -> None:
    change, message = BROKEN[name]
    changed(root, change)
    with pytest.raises(UserError, match=message) as refused:
        coco(root)
    assert "val2017" in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100000, "\x00", '{"images": 1e'])
def test_what_is_no_json_is_named(root: Path, text: str) -> None:
    file_of(root).write_text(text)
    with pytest.raises(UserError, match=r"instances_val2017\.json cannot be read as JSON \(.*\); repair it"):
        coco(root)


def test_what_is_no_object_is_named(root: Path) -> None:
    file_of(root).write_text("[]")
    with pytest.raises(UserError, match=r"must have a list of images"):
        coco(root)


def test_missing_annotations_say_what_to_unpack(root: Path) -> None:
    file_of(root).unlink()
    with pytest.raises(UserError, match=r"val2017\.json is not there; unpack COCO's archives .* set data\.root"):
        coco(root)


def test_too_large_a_file_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_lab.data.coco.LARGEST_JSON", 100)
    with pytest.raises(UserError, match=r"cannot be read as JSON \(it has more than 100 bytes\)"):
        coco(root)


def test_an_image_of_another_size_than_its_annotations_is_named(root: Path) -> None:
    changed(root, lambda c: c["images"][0].update(width=56, height=48))
    data = coco(root)
    with pytest.raises(UserError, match=r"139\.jpg \(it is 48x56, and its annotations are for 56x48\)"):
        list(data.batches("test"))


def test_a_picture_of_too_many_pixels_is_not_decoded(root: Path) -> None:
    (root / "val2017/000000000139.jpg").write_bytes(header_of_png(30000, 30000))
    changed(root, lambda c: c["images"][0].update(width=30000, height=30000))
    with pytest.raises(UserError, match=r"139\.jpg \(30000x30000 is more than data\.max_pixels=100000000\)"):
        list(coco(root).batches("test"))


def test_a_training_without_any_object_is_refused(root: Path) -> None:
    content = contents("train2017")
    content["annotations"] = []
    file_of(root, "train2017").write_text(json.dumps(content))
    with pytest.raises(UserError, match="has no training images with annotations"):
        coco(root)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": []}, "train must be a list of parts, each a folder of images"),
        ({"train": ["a/b"]}, r"train must have parts that are a folder .* got 'a/b'"),
        ({"test": ["train2014"]}, "train2014 is in train and test"),
        ({"num_classes": 0}, "num_classes must be a positive integer"),
        ({"mean": "per_pixel"}, "mean must be per_channel"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        COCO(root="nowhere", **settings)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.train=[..]"], "data: train must have parts that are a folder of images under root"),
        (["data.test=[train2014]"], "data: train2014 is in train and test"),
        (["data.num_classes=0"], "data.num_classes must be "),
        (["data.mean=[0.5]"], "data.mean must be per_channel or a list of three numbers"),
    ],
)
def test_wrong_settings_are_refused_at_once(main: Refuse, words: list[str], said: str) -> None:
    assert said in main("train", "data=coco", *words)


def test_the_config_is_the_papers(composed: Any) -> None:
    settings = composed("data=coco", "task=detection")["data"]
    assert COCO(**{k: v for k, v in settings.items() if k != "_target_"}).parts == (["train2014"], ["val2014"])
