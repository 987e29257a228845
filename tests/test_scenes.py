"""Scenes: what is in them, that it is said exactly, and that nothing but their settings decides it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from samples import write_cifar10
from test_data import write_mnist

from resnet_lab.data import CIFAR10, FashionMNIST, Scenes
from resnet_lab.data.annotations import mirrored
from resnet_lab.data.batches import Batch, Request
from resnet_lab.data.scenes import HIDDEN, INK, bounds, enlarged, hidden, inked
from resnet_lab.data.streams import random_integers

SMALL: dict[str, Any] = {
    "root": "",
    "image_size": 40,
    "sizes": [8, 20],
    "count": [1, 4],
    "train_images": 12,
    "test_images": 9,
    "batch_size": 5,
}


def scenes(**settings: Any) -> Scenes:
    data = Scenes(**SMALL | settings)
    data.prepare()
    return data


@pytest.fixture(scope="module")
def small() -> Scenes:
    return scenes()


def all_of(data: Scenes, part: str = "train") -> Batch:
    of_part = getattr(data, part)
    return data.dataset(of_part)[Request(torch.arange(len(of_part.labels)), 0, 1.0)]


def same(one: Any, other: Any) -> bool:
    return all(map(torch.equal, one, other))


def test_they_are_the_same_each_time_and_others_with_another_seed(small: Scenes) -> None:
    again, other = scenes(seed=7), scenes(scene_seed=1)
    assert same(again.train, small.train)
    assert same(again.test, small.test)
    assert again.checksum == small.checksum != other.checksum
    assert not torch.equal(other.train.pixels[0], small.train.pixels[0])
    assert not torch.equal(small.test.pixels[0], small.train.pixels[0])


def test_more_scenes_leave_the_first_as_they_are(small: Scenes) -> None:
    few = scenes(train_images=5, test_images=4)
    for part in ("train", "test"):
        of_few = getattr(few, part)
        assert same(of_few, (column[: len(of_few.labels)] for column in getattr(small, part)))


def test_loader_processes_change_nothing() -> None:
    alone, helped = (
        [data.ready(batch, training=True) for batch in data.train_dataloader()]
        for data in (scenes(flip=True, num_workers=number) for number in (0, 2))
    )
    assert [len(batch.labels) for batch in alone] == [5, 5, 2]
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one.images, other.images)
        for annotation, found in zip(one.annotations, other.annotations, strict=True):
            assert annotation.keys() == found.keys() == {"boxes", "labels", "left_out", "mask"}
            assert all(torch.equal(annotation[key], found[key]) for key in annotation)


def test_a_box_is_tight_round_the_pixels_of_its_object() -> None:
    """Of scenes of one object, which nothing covers."""
    data = scenes(count=[1, 1], train_images=20)
    for annotation in all_of(data).annotations:
        (box,), (label,) = annotation["boxes"], annotation["labels"]
        assert torch.equal(bounds(annotation["mask"] == 1 + label), box)
        assert set(annotation["mask"].unique().tolist()) == {0, 1 + int(label)}


def test_masks_boxes_and_pixels_agree() -> None:
    """A digit is bright where its mask is, and the background is dark; whatever is annotated is in a box."""
    data = scenes(train_images=20)
    batch = all_of(data)
    for pixels, annotation in zip(batch.images, batch.annotations, strict=True):
        assert torch.equal(pixels[0] >= INK, annotation["mask"] > 0)
        boxed = torch.zeros_like(annotation["mask"], dtype=torch.bool)
        for box, label in zip(annotation["boxes"].int().tolist(), annotation["labels"], strict=True):
            window = (slice(box[1], box[3]), slice(box[0], box[2]))
            boxed[window] = True
            assert (annotation["mask"][window] == 1 + label).any()
        assert boxed[annotation["mask"] > 0].all()
        assert set(annotation["mask"].unique().tolist()) == {0, *(1 + annotation["labels"]).tolist()}


def test_a_later_object_covers_an_earlier_one() -> None:
    """The last box has all of its object; where there are several, some object has lost pixels."""
    data, lost = scenes(train_images=60, sizes=[14, 20], count=[3, 4]), 0
    for annotation in all_of(data).annotations:
        box, label = annotation["boxes"][-1], annotation["labels"][-1]
        x1, y1, x2, y2 = box.int().tolist()
        of_last = annotation["mask"][y1:y2, x1:x2] == 1 + label
        assert torch.equal(bounds(of_last), torch.tensor([0.0, 0, x2 - x1, y2 - y1]))
        for box, label in zip(annotation["boxes"], annotation["labels"], strict=True):
            x1, y1, x2, y2 = box.int().tolist()
            inside = annotation["mask"][y1:y2, x1:x2] == 1 + label
            whole = torch.tensor([0.0, 0, x2 - x1, y2 - y1])
            lost += not torch.equal(bounds(inside), whole)
    assert lost


def test_an_object_hides_little_of_another() -> None:
    data, most = scenes(train_images=60, sizes=[14, 20], count=[3, 4]), 0.0
    for annotation in all_of(data).annotations:
        boxes = annotation["boxes"]
        for number in range(1, len(boxes)):
            most = max(most, hidden(boxes[number], boxes[:number]))
    assert 0.3 < most <= HIDDEN


def test_the_part_that_is_hidden_is_of_the_smaller_box() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [6, 6, 10, 10]])
    assert hidden(torch.tensor([8.0, 8, 10, 12]), boxes) == 0.5  # 4 of its own 8
    assert hidden(torch.tensor([0.0, 0, 9, 9]), boxes[1:]) == 9 / 16
    assert hidden(torch.tensor([10.0, 0, 12, 10]), boxes) == 0


def test_counts_sizes_and_labels_are_in_their_ranges(small: Scenes) -> None:
    for part in (small.train, small.test):
        there = part.classes >= 0
        assert there[:, 0].all()
        assert set(there.sum(1).tolist()) <= {1, 2, 3, 4}
        sides = (part.boxes[..., 2:] - part.boxes[..., :2])[there]
        assert sides.min() >= 1
        assert sides.max() <= 20
        assert part.boxes[there].min() >= 0
        assert part.boxes[there].max() <= 40
        areas = (part.boxes[..., 2:] - part.boxes[..., :2]).prod(-1)
        assert torch.equal(part.labels, part.classes.gather(1, areas.argmax(1)[:, None])[:, 0])
    assert len(small.train.classes[small.train.classes >= 0]) > 12
    assert scenes(count=[1, 1]).train.classes.shape == (12, 1)


def test_an_object_without_room_is_left_out_but_for_the_first() -> None:
    data = scenes(count=[4, 4], sizes=[40, 40])
    assert (data.train.classes >= 0).sum(1).tolist() == [1] * 12


def test_objects_come_in_the_colours_of_their_images(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST/raw")
    write_cifar10(tmp_path)
    for objects, source, channels in (("fashion_mnist", FashionMNIST, 1), ("cifar10", CIFAR10, 3)):
        data = scenes(root=str(tmp_path), objects=objects, count=[1, 1], sizes=[20, 20])
        images, _ = source(root=str(tmp_path)).load()
        assert data.train.pixels.shape == (12, channels, 40, 40)
        for pixels, annotation in zip(data.train.pixels, all_of(data).annotations, strict=True):
            x1, y1, x2, y2 = annotation["boxes"][0].int().tolist()
            inside = annotation["mask"] > 0
            shown = [
                enlarged(image, 20)
                for image, label in zip(images.pixels, images.labels, strict=True)
                if label == annotation["labels"]
            ]
            tight = [cut_to(inked(image), image) for image in shown]
            window = (slice(None), slice(y1, y2), slice(x1, x2))
            kept = inside[y1:y2, x1:x2]
            assert any(
                image.shape == pixels[window].shape and torch.equal(image[:, kept], pixels[window][:, kept])
                for image in tight
            )


def cut_to(inside: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    x1, y1, x2, y2 = bounds(inside).int().tolist()
    return image[:, y1:y2, x1:x2]


def test_photographs_are_whole_and_cover_each_other(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    data = scenes(root=str(tmp_path), objects="cifar10", count=[2, 3])
    for annotation in all_of(data).annotations:
        painted = torch.zeros_like(annotation["mask"])
        for box, label in zip(annotation["boxes"].int().tolist(), annotation["labels"], strict=True):
            painted[box[1] : box[3], box[0] : box[2]] = 1 + label
        assert torch.equal(painted, annotation["mask"])


def test_mirrored_twice_is_as_before_and_once_is_a_mirror_image(small: Scenes) -> None:
    batch = all_of(small)
    for image, annotation in zip(batch.images, batch.annotations, strict=True):
        turned, there = mirrored(image, annotation)
        back, again = mirrored(turned, there)
        assert torch.equal(back, image)
        assert all(torch.equal(again[key], annotation[key]) for key in annotation)
        assert torch.equal(turned, image.flip(-1))
        assert torch.equal(there["mask"], annotation["mask"].flip(-1))
        x1, y1, x2, y2 = annotation["boxes"].unbind(1)
        assert torch.equal(there["boxes"], torch.stack([40 - x2, y1, 40 - x1, y2], 1))


def test_flip_mirrors_half_by_seed_epoch_and_image() -> None:
    data = scenes(flip=True, train_images=40, seed=3)
    batch = all_of(data)._replace(epoch=2)
    plain, turned = data.ready(batch), data.ready(batch, training=True)
    chosen = random_integers(2, 3, 2, batch.indices, "mirror").bool().tolist()
    assert 10 < sum(chosen) < 30
    for number, flip in enumerate(chosen):
        image, annotation = plain.images[number], plain.annotations[number]
        expected, there = mirrored(image, annotation) if flip else (image, annotation)
        assert torch.equal(turned.images[number], expected)
        assert all(torch.equal(turned.annotations[number][key], there[key]) for key in there)


def test_no_scene_is_mirrored_unless_asked(small: Scenes) -> None:
    batch = all_of(small)
    assert torch.equal(small.ready(batch, training=True).images, small.ready(batch).images)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("objects=letters", "objects must be one of digits, fashion_mnist, cifar10; got 'letters'"),
        ("count=[2,1]", "count must be two positive integers, the least and the greatest, got [2, 1]"),
        ("count=[0,1]", "count must be two positive integers"),
        ("count=3", "count must be two positive integers, the least and the greatest, got 3"),
        ("sizes=[8,1.5]", "sizes must be two positive integers"),
        ("sizes=[8,200]", "sizes must not exceed image_size=96, got [8, 200]"),
        ("image_size=0", "image_size must be null or a positive integer, got 0"),
        ("train_images=0", "train_images must be a positive integer, got 0"),
        ("scene_seed=-1", "scene_seed must be an integer, 0 or more, got -1"),
    ],
)
def test_a_wrong_setting_is_refused_at_once(
    main: Callable[..., str], tmp_path: Path, setting: str, told: str
) -> None:
    assert told in main("train", "data=scenes", *TINY[5:], f"data.{setting}")
    assert not (tmp_path / "outputs").exists()


def test_localization_takes_one_object_in_each_scene(main: Callable[..., str]) -> None:
    told = main("train", "data=scenes", *TINY[5:], "task=localization")
    assert "one object in each image, got data.count=[1, 4]; set it to [1,1]" in told
    assert "localization" in scenes(count=[1, 1]).tasks
    assert "localization" not in scenes(count=[1, 2]).tasks
