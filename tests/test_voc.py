"""PASCAL VOC in its own format: a small tree of two years, whose boxes and masks are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from samples import header_of_png
from torchvision.datasets import VOCDetection, VOCSegmentation
from torchvision.transforms.functional import pil_to_tensor

from resnet_lab.checks import UserError
from resnet_lab.data import VOC
from resnet_lab.data.annotations import UNKNOWN
from resnet_lab.data.batches import Batch, Request
from resnet_lab.data.voc import CLASSES

Refuse = Callable[..., str]
# name: (width, height), objects as (class, xmin, ymin, xmax, ymax, difficult)
IMAGES: dict[str, tuple[tuple[int, int], list[tuple[Any, ...]]]] = {
    "000001": ((60, 40), [("dog", 1, 1, 60, 40, 0), ("cat", 11, 6, 30, 25, 0)]),
    "000002": ((48, 56), [("person", 5, 7, 5, 9, 0), ("tvmonitor", 2.5, 3.25, 40.5, 50, 1)]),
    "000003": ((50, 50), []),
    "000004": ((44, 52), [("aeroplane", 3, 3, 20, 30, 1)]),
    "2008_000001": ((40, 60), [("bus", 10, 20, 40, 60, 0)]),
    "000005": ((60, 44), [("sheep", 1, 2, 3, 4, 0), ("horse", 5, 6, 50, 40, 1)]),
    "000006": ((42, 42), []),
}
LISTS = {
    ("2007", "trainval"): ["000001", "000002", "000003", "000004"],
    ("2012", "trainval"): ["2008_000001"],
    ("2007", "test"): ["000005", "000006"],
}


def xml_of(size: tuple[int, int], objects: list[tuple[Any, ...]]) -> str:
    of_objects = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox><part><name>head</name><bndbox><xmin>900</xmin><ymin>900</ymin>"
        "<xmax>901</xmax><ymax>901</ymax></bndbox></part></object>"
        for name, x1, y1, x2, y2, difficult in objects
    )
    # the wrong way round, as it is in some files of 2012
    return f"<annotation><size><width>{size[1]}</width><height>{size[0]}</height></size>{of_objects}</annotation>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for (year, split), names in LISTS.items():
        folder = tmp_path / "voc/VOCdevkit" / f"VOC{year}"
        for name in ("JPEGImages", "Annotations", "SegmentationClass", "ImageSets/Main", "ImageSets/Segmentation"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name in names:
            size, objects = IMAGES[name]
            small = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
            Image.fromarray(small).resize(size).save(folder / f"JPEGImages/{name}.jpg", quality=90)
            (folder / f"Annotations/{name}.xml").write_text(xml_of(size, objects))
            write_mask(folder / f"SegmentationClass/{name}.png", mask_of(name))
        for kind in ("Main", "Segmentation"):
            (folder / f"ImageSets/{kind}/{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return tmp_path / "voc"


def mask_of(name: str) -> Any:
    (width, height), _ = IMAGES[name]
    mask = np.zeros((height, width), np.uint8)
    mask[5:20, 8:30], mask[5:20, 30] = 1 + int(name[-1]), UNKNOWN
    return mask


def write_mask(path: Path, mask: Any) -> None:
    image = Image.fromarray(mask)
    image.putpalette([value for index in range(256) for value in (index, 255 - index, 7)])
    image.save(path)


def voc(root: Path, **settings: Any) -> VOC:
    data = VOC(root=str(root), **{"mean": [0.0, 0.0, 0.0], "num_workers": 0, "batch_size": 2} | settings)
    data.prepare()
    return data


def batch_of(data: VOC, part: str = "test", *indices: int) -> Batch:
    of_part = data.test if part == "test" else data.train_images()
    rows = torch.tensor(indices) if indices else torch.arange(len(of_part.labels))
    return data.dataset(of_part)[Request(rows, 0, 1.0)]


def masks(root: Path, **settings: Any) -> VOC:
    return voc(root, annotations="masks", **settings)


def test_boxes_count_from_zero_and_end_before_x2_and_y2(root: Path) -> None:
    data = voc(root)
    first, second, third = batch_of(data, "train").annotations
    assert first["boxes"].tolist() == [[0, 0, 60, 40], [10, 5, 30, 25]]
    assert [CLASSES[label] for label in first["labels"]] == ["dog", "cat"]
    assert first["left_out"].tolist() == [False, False]
    assert second["boxes"].tolist() == [[4, 6, 5, 9], [1.5, 2.25, 40.5, 50]]
    assert second["left_out"].tolist() == [False, True]
    assert third["boxes"].tolist() == [[9, 19, 40, 60]]
    assert [tensor.dtype for tensor in first.values()] == [torch.float32, torch.int64, torch.bool]
    assert "mask" not in first


def test_images_without_an_object_that_counts_are_for_evaluation_alone(root: Path) -> None:
    data = voc(root)
    assert len(data.train_images().labels) == 3
    assert data.tasks == ("detection",)
    batch = batch_of(data)
    assert [len(annotation["boxes"]) for annotation in batch.annotations] == [2, 0]
    assert batch.annotations[1]["boxes"].shape == (0, 4)
    assert [CLASSES[label] for label in batch.labels] == ["horse", "aeroplane"]  # the largest, and none
    assert [tuple(image.shape) for image in batch.images] == [(3, 44, 60), (3, 42, 42)]


def test_it_is_what_torchvision_reads(root: Path) -> None:
    data = voc(root, train=["2007-test"], test=["2007-trainval"])
    batch = batch_of(data)
    reference = VOCDetection(str(root), "2007", "trainval")
    for place, (image, target) in enumerate(reference):
        difference = batch.images[place].int() - pil_to_tensor(image).int()
        assert difference.abs().max() <= 2  # of two decoders
        objects = target["annotation"].get("object", [])
        names = [CLASSES[label] for label in batch.annotations[place]["labels"]]
        assert names == [entry["name"] for entry in objects]
        corners = [[float(e["bndbox"][k]) for k in ("xmin", "ymin", "xmax", "ymax")] for e in objects]
        from_one = batch.annotations[place]["boxes"] + torch.tensor([1, 1, 0, 0])
        assert from_one.tolist() == corners
    of_masks = batch_of(masks(root, train=["2007-test"], test=["2007-trainval"])).annotations
    for annotation, (_, mask) in zip(of_masks, VOCSegmentation(str(root), "2007", "trainval"), strict=True):
        assert torch.equal(annotation["mask"], torch.from_numpy(np.array(mask)))


def test_masks_are_the_indices_of_the_palette(root: Path) -> None:
    data = masks(root)
    assert data.tasks == ("segmentation",)
    assert len(data.train_images().labels) == 5
    for place, name in enumerate(LISTS["2007", "test"]):
        annotation = batch_of(data).annotations[place]
        assert annotation["mask"].dtype == torch.uint8
        assert np.array_equal(annotation["mask"], mask_of(name))
        assert annotation["boxes"].shape == (0, 4)


def test_images_with_masks_are_continued_to_one_size(root: Path) -> None:
    data = masks(root, mean=[0.5, 0.5, 0.5])
    batch = data.ready(batch_of(data))
    assert batch.images.shape == (2, 3, 44, 60)
    for place, name in enumerate(LISTS["2007", "test"]):
        (width, height), _ = IMAGES[name]
        mask = batch.annotations[place]["mask"]
        assert mask.shape == (44, 60)
        assert np.array_equal(mask[:height, :width], mask_of(name))
        assert (mask[height:] == UNKNOWN).all()
        assert (mask[:, width:] == UNKNOWN).all()
        assert not batch.images[place, :, height:].any()
        assert not batch.images[place, :, :, width:].any()
        assert torch.equal(batch.images[place, :, :height, :width], data.normalize(batch_of(data).images)[place])


@pytest.mark.parametrize("annotations", ["boxes", "masks"])
def test_loader_processes_change_nothing(root: Path, annotations: str) -> None:
    alone, helped = (
        [
            data.ready(batch, training=True)
            for epoch in range(2)
            for batch in set_epoch(data.train_dataloader(), epoch)
        ]
        for data in (voc(root, annotations=annotations, flip=True, num_workers=n) for n in (0, 2))
    )
    assert len(alone) == len(helped) == 2 * -(-(3 if annotations == "boxes" else 5) // 2)
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.indices, other.indices)
        assert all(map(torch.equal, one.images, other.images))
        for annotation, same in zip(one.annotations, other.annotations, strict=True):
            assert annotation.keys() == same.keys()
            assert all(torch.equal(annotation[key], same[key]) for key in same)


def set_epoch(loader: Any, epoch: int) -> Any:
    loader.sampler.set_epoch(epoch)
    return loader


def test_mirrored_images_have_mirrored_boxes_and_masks(root: Path) -> None:
    flipped = 0
    for data in (voc(root, flip=True), masks(root, flip=True)):
        plain = batch_of(data, "train")
        for epoch in range(4):
            turned = data.ready(plain._replace(epoch=epoch), training=True)
            for place, annotation in enumerate(plain.annotations):
                image, now = plain.images[place].float() / 255, turned.annotations[place]
                _, height, width = image.shape
                shown = turned.images[place][:, :height, :width]
                if torch.equal(shown, image):
                    assert torch.equal(now["boxes"], annotation["boxes"])
                    continue
                flipped += 1
                assert torch.equal(shown, image.flip(2))
                x1, y1, x2, y2 = annotation["boxes"].unbind(1)
                assert torch.equal(now["boxes"], torch.stack([width - x2, y1, width - x1, y2], 1))
                if "mask" in annotation:
                    assert torch.equal(now["mask"][:height, :width], annotation["mask"].flip(1))
    assert 8 <= flipped <= 24  # of 32
    still = voc(root)
    assert torch.equal(
        still.ready(batch_of(still, "train"), True).annotations[0]["boxes"][0, 0], torch.tensor(0.0)
    )


def test_exif_data_turn_no_image(root: Path) -> None:
    path = root / "VOCdevkit/VOC2007/JPEGImages/000005.jpg"
    data = voc(root)
    before, content = batch_of(data).images[0], path.read_bytes()
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        said = exif.tobytes()
        path.write_bytes(content[:2] + b"\xff\xe1" + (len(said) + 2).to_bytes(2) + said + content[2:])
        with Image.open(path) as image:
            assert image.getexif()[0x0112] == orientation
        assert torch.equal(batch_of(data).images[0], before), orientation


def test_xmp_data_turn_no_image(root: Path) -> None:
    path = root / "VOCdevkit/VOC2007/JPEGImages/000005.jpg"
    data = voc(root)
    before, content = batch_of(data).images[0], path.read_bytes()
    said = b'http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation="3"/>'
    path.write_bytes(content[:2] + b"\xff\xe1" + (len(said) + 2).to_bytes(2) + said + content[2:])
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == 3
    assert torch.equal(batch_of(data).images[0], before)


def test_the_mean_is_that_of_all_pixels(root: Path) -> None:
    data = voc(root, mean="per_channel")
    pixels = torch.cat([image.reshape(3, -1) for image in batch_of(data, "train").images], 1).double() / 255
    assert data.mean.flatten().tolist() == pytest.approx(pixels.mean(1).tolist(), rel=1e-5)
    assert voc(root, mean="per_channel", statistics_images=1).mean.tolist() != data.mean.tolist()


def test_held_out_images_keep_their_boxes(root: Path) -> None:
    data = voc(root, holdout=1)
    everything = {tuple(map(tuple, a["boxes"].tolist())) for a in batch_of(voc(root), "train").annotations}
    kept = {tuple(map(tuple, a["boxes"].tolist())) for a in batch_of(data, "train").annotations}
    (of_held,) = data.dataset(data.val)[Request(torch.arange(1), 0, 1.0)].annotations
    held = {tuple(map(tuple, of_held["boxes"].tolist()))}
    assert kept | held == everything
    assert len(kept) == 2


def test_the_checksum_is_of_the_boxes_too(root: Path) -> None:
    before = voc(root).checksum
    assert voc(root).checksum == before
    path = root / "VOCdevkit/VOC2007/Annotations/000001.xml"
    path.write_text(path.read_text().replace("<xmin>11<", "<xmin>12<"))
    assert voc(root).checksum != before


def test_what_is_rounded_beyond_the_image_is_cut_off(root: Path) -> None:
    path = root / "VOCdevkit/VOC2007/Annotations/000005.xml"
    path.write_text(xml_of((60, 44), [("dog", 0, 1, 60.5, 45, 0)]))
    assert batch_of(voc(root)).annotations[0]["boxes"].tolist() == [[0, 0, 60, 44]]


BROKEN_XML = {
    "<annotation><object>": r"000005\.xml cannot be read as XML \(no element found",
    '<!DOCTYPE a [<!ENTITY x "xxxxxxxx">]><annotation>&x;</annotation>': r"000005\.xml cannot be .* has a DOCTYPE",
    '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>': r"has a DOCTYPE, which VOC's do not",
    "<annotation>&unknown;</annotation>": r"cannot be read as XML \(undefined entity",
    '<?xml version="1.0" encoding="none"?><annotation/>': r"cannot be read as XML",
    "<annotation>" + " " * (1 << 20) + "</annotation>": r"has more than 1048576 bytes",
    xml_of((60, 44), [("dgo", 1, 1, 2, 2, 0)]): r"object 1 must be of one .*, got 'dgo'; did you mean dog\?",
    xml_of((60, 44), [("cat", 1, 1, 2, 2, 0), ("dog", 5, 5, 4, 9, 0)]): (
        r"object 2 \(dog\) has xmin, ymin, xmax, ymax = 5, 5, 4, 9; xmax must not be below xmin"
    ),
    xml_of((60, 44), [("dog", 5, 5, 62, 9, 0)]): (
        r"= 5, 5, 62, 9, which does not lie in the image, 1 to 60 and 1 to 44"
    ),
    xml_of((60, 44), [("dog", "a", 5, 62, 9, 0)]): r"must have a number of pixels in bndbox/xmin, got 'a'",
    xml_of((60, 44), [("dog", "nan", 5, 62, 9, 0)]): r"bndbox/xmin, got 'nan'",
    xml_of((60, 44), [("dog", 1, 5, "1e400", 9, 0)]): r"bndbox/xmax, got '1e400'",
    "<annotation><object><name>dog</name></object></annotation>": r"bndbox/xmin, got None",
}


@pytest.mark.parametrize(("content", "message"), BROKEN_XML.items(), ids=range(len(BROKEN_XML)))
def test_broken_annotations_are_named(root: Path, content: str, message: str) -> None:
    (root / "VOCdevkit/VOC2007/Annotations/000005.xml").write_text(content)
    with pytest.raises(UserError, match=message):
        voc(root)


@pytest.mark.parametrize(
    ("annotations", "missing", "message"),
    [
        ("boxes", "JPEGImages/000001.jpg", r"000001\.jpg is not there, and ImageSets names it"),
        ("boxes", "Annotations/000002.xml", r"000002\.xml is not there.* of no later test"),
        ("masks", "SegmentationClass/000005.png", r"000005\.png is not there"),
        (
            "boxes",
            "ImageSets/Main/trainval.txt",
            r"val\.txt is not there; unpack VOCtrainval_06-Nov-2007\.tar",
        ),
        ("masks", "ImageSets/Segmentation/test.txt", r"test\.txt is not there; unpack VOCtest_06-Nov-2007\.tar"),
    ],
)
def test_missing_files_are_named(root: Path, annotations: str, missing: str, message: str) -> None:
    (root / "VOCdevkit/VOC2007" / missing).unlink()
    with pytest.raises(UserError, match=message):
        voc(root, annotations=annotations)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"must have the name of an image in each line, got ''"),
        ("000005\n../../000006\n", r"in each line, got '../../000006'"),
        ("000005\n000005\n", r"image 000005 is in 2007-test and in 2007-test"),
        ("000005\n000001\n", r"image 000001 is in 2007-trainval and in 2007-test"),
    ],
)
def test_broken_lists_are_named(root: Path, text: str, message: str) -> None:
    (root / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        voc(root)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda path: write_mask(path, np.zeros((44, 61), np.uint8)), r"it is 61x44, the image 60x44"),
        (lambda path: write_mask(path, np.full((44, 60), 21, np.uint8)), r"it has index 21, not 0 to 20 or 255"),
        (lambda path: Image.new("RGB", (60, 44)).save(path), r"it is PNG in mode RGB, not PNG with an index"),
        (lambda path: path.write_bytes(b""), r"not a whole image"),
        (lambda path: path.write_bytes(path.read_bytes()[:200]), r"[Tt]runcated|not a whole image"),
    ],
)
def test_broken_masks_are_named_as_they_are_read(root: Path, broken: Callable[[Path], None], message: str) -> None:
    broken(root / "VOCdevkit/VOC2007/SegmentationClass/000005.png")
    data = masks(root)
    with pytest.raises(UserError, match=rf"000005\.jpg \(its mask .*000005\.png: .*({message})"):
        list(data.batches("test"))


def test_unreadable_images_are_left_out_where_that_is_allowed(root: Path) -> None:
    (root / "VOCdevkit/VOC2007/JPEGImages/000005.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"1 image\(s\) cannot be read, the first is .*000005\.jpg"):
        list(voc(root).batches("test"))
    data = voc(root, allow_unreadable=True)
    ((images, labels),) = data.batches("test")
    assert (len(images), len(labels)) == (1, 1)
    assert "000005.jpg" in min(data.unreadable)


def test_a_picture_of_too_many_pixels_is_not_decoded(root: Path) -> None:
    (root / "VOCdevkit/VOC2007/JPEGImages/000005.jpg").write_bytes(header_of_png(30000, 30000))
    with pytest.raises(UserError, match=r"000005\.jpg \(30000x30000 is more than data\.max_pixels=100000000\)"):
        list(voc(root).batches("test"))
    with pytest.raises(UserError, match=r"is more than data\.max_pixels=1999\)"):
        list(voc(root, max_pixels=1999).batches("test"))


WRONG = [
    ({"train": []}, "train must be a list of parts, each a year and train"),
    ({"train": ["2007-all"]}, "train must have parts that are a year and train, val, .* got '2007-all'"),
    ({"test": "2007-test"}, "test must be a list"),
    ({"test": ["2007-trainval"]}, "2007-trainval is in train and test"),
    ({"annotations": "outlines"}, "annotations must be one of boxes, masks; got 'outlines'"),
    ({"mean": "per_pixel"}, "mean must be per_channel or a list of three numbers"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VOC(root="nowhere", **{"train": ["2007-trainval"], "test": ["2007-test"]} | settings)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=voc", "data.train=[2007-all]"], "data: train must have parts that are a year"),
        (["data=voc", "data.test=[2012-trainval]"], "data: 2012-trainval is in train and test"),
        (["data=voc", "data.annotations=both"], "data: annotations must be one of boxes, masks"),
        (["data=voc_segmentation", "data.mean=per_pixel"], "data.mean must be per_channel or a list of three"),
        (["data=voc", "data.std=[1,1]"], "data.std must be null or a list of three numbers above 0"),
    ],
)
def test_wrong_settings_are_refused_at_once(main: Refuse, words: list[str], said: str) -> None:
    assert said in main("train", *words)


def test_there_is_a_config_for_boxes_and_one_for_masks(composed: Any) -> None:
    boxes, of_masks = (
        composed(f"data={name}", f"task={task}")["data"]
        for name, task in {"voc": "detection", "voc_segmentation": "segmentation"}.items()
    )
    assert (boxes["annotations"], of_masks["annotations"]) == ("boxes", "masks")
    assert boxes["train"] == ["2007-trainval", "2012-trainval"]
    settings = {k: v for k, v in of_masks.items() if k != "_target_"}
    assert VOC(**settings).parts == (["2012-train"], ["2012-val"])
