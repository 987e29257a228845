"""Folders of JPEGs: scikit-learn's digits, written in different sizes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from samples import header_of_png
from torchvision import transforms
from torchvision.datasets import ImageFolder

from resnet_lab.checks import UserError
from resnet_lab.data import Digits, ImageNet
from resnet_lab.data.batches import Request
from resnet_lab.data.decoding import read_image
from resnet_lab.data.views import RandomCrop

SMALL = ["data=imagenet", "data.image_size=16", "data.shorter_side=[18,30]", "data.eval_shorter_side=18"]
SMALL += ["data.batch_size=8", "data.num_workers=1", "model=cifar_resnet", "model.depth=8", "model.width=4"]
SMALL += ["iterations=4", "runtime.threads=1"]


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    train, _ = Digits(root="").load()
    return train.pixels[:400, 0], train.labels[:400]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three classes; 8 training and 4 validation images each; all sizes, colours and grey."""
    pixels, labels = pictures()
    random = np.random.default_rng(0)
    for label in range(3):
        for place, index in enumerate(torch.where(labels == label)[0][:12]):
            folder = tmp_path / "tree" / ("train" if place < 8 else "val") / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            width, height = random.integers(20, 60, 2)
            image = Image.fromarray(pixels[index].numpy()).resize((int(width), int(height)))
            if place % 3:
                image = Image.merge("RGB", [image, image.rotate(90).resize(image.size), image])
            image.save(folder / f"{place}.JPEG", quality=90)
    return tmp_path / "tree"


def imagenet(tree: Path, **settings: Any) -> ImageNet:
    sizes = {
        "image_size": 16,
        "shorter_side": [18, 30],
        "eval_shorter_side": 18,
        "batch_size": 8,
        "num_workers": 0,
    }
    data = ImageNet(root=str(tree), flip=True, **sizes | settings)
    data.prepare()
    return data


def test_labels_are_the_folders_in_order(tree: Path) -> None:
    data = imagenet(tree)
    assert data.num_classes == 3
    assert data.train_images().labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert len(data.test.labels) == 12
    assert data.iterations_per_epoch == 3
    batch = data.dataset(data.test)[Request(torch.tensor([0, 5, 11]), 0, 1.0)]
    assert batch.images.shape == (3, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.labels.tolist() == [0, 1, 2]


def test_batches_come_out_normalized_and_without_what_cannot_be_read(tree: Path) -> None:
    (tree / "val/class1/9.JPEG").write_bytes(b"no image")
    data = imagenet(tree, allow_unreadable=True, mean=[0.1, 0.2, 0.3], std=[1.0, 2.0, 4.0])
    images, labels = (torch.cat(column) for column in zip(*data.batches("test", 5), strict=True))
    assert labels.tolist() == [0] * 4 + [1] * 3 + [2] * 4
    first = data.dataset(data.test)[Request(torch.tensor([0]), 0, 1.0)].images.float() / 255
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1)
    torch.testing.assert_close(images[:1], (first - mean) / std)
    with pytest.raises(UserError, match=r"1 image\(s\) cannot be read, the first is .*class1/9\.JPEG"):
        list(imagenet(tree).batches("test", 5))


@pytest.mark.parametrize("setting", ["holdout", "subset"])
def test_one_image_is_taken_as_several_are(tree: Path, setting: str) -> None:
    data = imagenet(tree, **{setting: 1}, mean=[0.1, 0.2, 0.3])
    few = data.val if setting == "holdout" else data.train
    assert few.paths.shape == (1,)
    assert len(data.dataset(few)[Request(torch.arange(1), 0, 1.0)].images) == 1


def test_the_mean_and_the_components_are_those_of_the_training_crops(tree: Path) -> None:
    data = imagenet(tree)
    crops = data.dataset(data.train)[Request(torch.arange(24), 0, 1.0)].images.double() / 255
    torch.testing.assert_close(data.mean, crops.mean(0).float())
    colours = crops.transpose(0, 1).reshape(3, -1)
    values, vectors = torch.linalg.eigh(torch.cov(colours, correction=0))
    assert data.colours is not None
    # the sign of an eigenvector is free
    torch.testing.assert_close(
        data.colours.components.abs().double(), (vectors * values).abs(), atol=1e-6, rtol=1e-4
    )
    assert imagenet(tree, mean="per_channel").mean.shape == (3, 1, 1)
    assert imagenet(tree, mean=[0.1, 0.2, 0.3], std=[1, 2, 4]).normalize(
        torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    )[0, :, 0, 0].tolist() == pytest.approx([0.9, 0.4, 0.7 / 4])


def test_crops_are_a_function_of_seed_epoch_and_image(tree: Path) -> None:
    data = imagenet(tree)
    files = data.dataset(data.train, training=True)
    together = files[Request(torch.arange(10), 3, 1.0)].images
    assert torch.equal(files[Request(torch.tensor([7]), 3, 1.0)].images[0], together[7])
    assert not torch.equal(files[Request(torch.arange(10), 4, 1.0)].images, together)
    other = imagenet(tree, seed=1)
    assert not torch.equal(
        other.dataset(other.train, training=True)[Request(torch.arange(10), 3, 1.0)].images, together
    )


def test_the_shorter_side_is_uniform() -> None:
    """Of a ramp, a crop's slope tells how long the shorter side was made."""
    ramp = torch.arange(200, dtype=torch.float32).expand(3, 200, 200).to(torch.uint8)
    crop = RandomCrop((256, 480), 224, flip=False, seed=0)
    spans = []
    for draw in crop.draws(0, torch.arange(600)):
        (view,) = crop(ramp, draw)
        assert view.shape == (3, 224, 224)
        spans.append(int(view[0, 0, -1]) - int(view[0, 0, 0]) + 1)
    sides = 200 * 224 / torch.tensor(spans, dtype=torch.float64)
    assert sides.min() > 245
    assert sides.max() < 500
    assert sides.mean().item() == pytest.approx(368, rel=0.03)
    flipping = RandomCrop((256, 256), 224, flip=True, seed=0).draws(0, torch.arange(1000))
    assert sum(draw.mirrored for draw in flipping) == pytest.approx(500, abs=60)
    (view,) = RandomCrop((256, 256), 224, flip=True, seed=0)(ramp, flipping[0]._replace(mirrored=True))
    assert view[0, 0, 0] > view[0, 0, -1]


def test_colours_are_shifted_alike_over_an_image(tree: Path) -> None:
    data = imagenet(tree)
    batch = next(iter(data.train_dataloader()))
    images = data.normalize(batch.images)
    shifts = (data.augment(images.clone(), batch) - images).flatten(2)
    assert shifts.std(2).max() < 1e-5
    assert data.colours is not None
    multiples = torch.linalg.solve(data.colours.components.double(), shifts.mean(2).double().T)
    assert 0.01 < multiples.abs().mean() < 0.3  # of a standard deviation of 0.1
    data.augment(images.to("meta"), batch._replace(indices=batch.indices.to("meta")))
    assert data.colours.components.is_meta  # they stay on a device once they are there
    data.colour = 0
    assert torch.equal(data.augment(images, batch), images)


def test_colours_are_shifted_on_the_scale_of_the_images(tree: Path) -> None:
    shifts = []
    for std in (None, [0.2, 0.25, 0.5]):
        data = imagenet(tree, std=std)
        batch = next(iter(data.train_dataloader()))
        images = data.normalize(batch.images)
        shifts.append(data.augment(images.clone(), batch) - images)
    deviation = torch.tensor([0.2, 0.25, 0.5])[:, None, None]
    torch.testing.assert_close(shifts[1] * deviation, shifts[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_an_unreadable_image_stops_the_run_and_is_named(tree: Path, damage: str) -> None:
    path = tree / "train/class1/3.JPEG"
    raw = path.read_bytes()
    path.write_bytes({"truncated": raw[: len(raw) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(UserError, match=r"1 image\(s\) cannot be read.*class1/3\.JPEG .*allow_unreadable"):
        imagenet(tree)
    allowed = imagenet(tree, allow_unreadable=True)
    assert len(allowed.unreadable) == 1
    batch = allowed.dataset(allowed.train)[Request(torch.arange(8, 16), 0, 1.0)]
    assert len(batch.labels) == len(batch.images) == 7


@pytest.mark.parametrize(
    ("break_it", "settings", "message"),
    [
        (lambda tree: None, {"num_classes": 1000}, "data.num_classes=1000, but .*train has 3 folders"),
        (lambda tree: (tree / "val/class9").mkdir(), {}, "are not the same: class9 is in one of them alone"),
        (lambda tree: (tree / "train/class9").mkdir() or (tree / "val/class9").mkdir(), {}, "class9"),
        (
            lambda tree: (tree / "val").rename(tree / "validation"),
            {},
            "val has no folders of images; put",
        ),
        (
            lambda tree: (tree / "train").rename(tree / "ILSVRC2012_img_train.tar"),
            {},
            "unpack ILSVRC2012",
        ),
        (lambda tree: None, {"mean": [0.5]}, r"data.mean must be a list of 3 numbers, got \[0.5\]"),
        (lambda tree: None, {"std": [1, 1, 0]}, "data.std must be a list of 3 numbers above zero"),
        (lambda tree: None, {"subset": 99}, "data.subset must not exceed the 24 training images, got 99"),
    ],
)
def test_what_is_missing_is_named(tree: Path, break_it: Callable, settings: dict, message: str) -> None:
    break_it(tree)
    with pytest.raises(UserError, match=message):
        imagenet(tree, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shorter_side": [8, 30]}, r"shorter_side must be two lengths from image_size=16 up, got \[8, 30\]"),
        ({"eval_shorter_side": 8}, "eval_shorter_side must be an integer >= 16, got 8"),
        ({"shorter_side": [256, 480]}, r"4 times image_size=16, .*shorter_side=\[18,34\] .*data=image_folder"),
        ({"eval_shorter_side": 65}, "eval_shorter_side=65 must not exceed 4 times image_size=16"),
        ({"colour": -1}, "colour must be a number, 0 or more, got -1"),
        ({"allow_unreadable": 1}, "allow_unreadable must be true or false, got 1"),
        ({"mean": "imagenet"}, "mean must be one of per_pixel, per_channel; got 'imagenet'"),
    ],
)
def test_settings_out_of_range(tree: Path, settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        imagenet(tree, **settings)


def test_images_that_would_be_blown_up_are_told_of(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    imagenet(tree)
    assert "blows" not in caplog.text
    imagenet(tree, image_size=64, shorter_side=[128, 240], eval_shorter_side=128)
    assert re.search(
        r"is [\d.]+ pixels in the median of 8, .*\[128, 240\] blows them up .*image_folder", caplog.text
    )


def test_odd_images_are_read_and_links_to_nowhere_are_not(tree: Path) -> None:
    """One pixel wide or high, and far longer than wide; what is no image by its name is left out."""
    for name, size in (("thin", (1, 40)), ("flat", (40, 1)), ("long", (3000, 2))):
        Image.new("RGB", size).save(tree / f"train/class0/{name}.png")
    (tree / "train/class0/nowhere.JPEG").symlink_to(tree / "nowhere")
    (tree / "train/class0/readme.txt").write_text("no image")
    data = imagenet(tree, allow_unreadable=True)
    assert len(data.train_images().labels) == 28
    for training in (True, False):
        batch = data.dataset(data.train, training)[Request(torch.arange(28), 0, 1.0)]
        assert batch.images.shape == (27, 3, 16, 16)
        assert len(batch.unreadable) == 1
        assert "nowhere.JPEG" in batch.unreadable[0]
    assert read_image(str(tree / "train/class0/long.png"), 6000).shape == (3, 2, 32)


def test_a_picture_of_too_many_pixels_is_not_decoded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "train/class1/3.JPEG").write_bytes(header_of_png(30000, 30000))
    message = r"class1/3\.JPEG \(30000x30000 is more than data\.max_pixels=100000000\); .*allow_unreadable"
    with pytest.raises(UserError, match=message):
        imagenet(tree)
    assert len(imagenet(tree, allow_unreadable=True).unreadable) == 1
    Image.new("RGB", (50, 40)).save(tree / "train/class1/3.JPEG", "PNG")
    assert read_image(str(tree / "train/class1/3.JPEG"), 2000).shape == (3, 40, 50)
    with pytest.raises(ValueError, match=r"50x40 is more than data.max_pixels=1999"):
        read_image(str(tree / "train/class1/3.JPEG"), 1999)
    with pytest.raises(ValueError, match="max_pixels must be a positive integer, got 0"):
        imagenet(tree, max_pixels=0)
    assert Image.MAX_IMAGE_PIXELS  # Pillow's own limit stands for others


@pytest.mark.parametrize("form", ["GIF", "WEBP"])
def test_of_several_pictures_in_a_file_none_is_decoded(tmp_path: Path, form: str) -> None:
    pictures = [Image.new("RGB", (9, 9), colour) for colour in ("red", "green", "blue")]
    path = tmp_path / f"moving.{form.lower()}"
    pictures[0].save(path, form, save_all=True, append_images=pictures[1:])
    with pytest.raises(ValueError, match="several pictures in one file"):
        read_image(str(path), 100)
    pictures[0].save(path, form)
    assert read_image(str(path), 100).shape == (3, 9, 9)


def test_of_a_jpeg_with_previews_the_picture_is_read(tmp_path: Path) -> None:
    picture, preview = Image.new("RGB", (16, 8), "red"), Image.new("RGB", (4, 2), "blue")
    picture.save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=[preview])
    with Image.open(tmp_path / "photo.jpg") as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]
    read = read_image(str(tmp_path / "photo.jpg"), 1000)
    assert read.shape == (3, 8, 16)
    assert read[0].float().mean() > 250


@pytest.mark.slow
def test_through_the_command_line(resnet_lab: Callable[..., Any], tree: Path, tmp_path: Path) -> None:
    (tree / "train/class0/0.JPEG").write_bytes(b"")
    (tree / "val/class2/11.JPEG").write_bytes(b"")
    refused = resnet_lab("train", *SMALL, f"data.root={tree}")
    assert refused.returncode == 1
    assert "class0/0.JPEG (the file is empty); repair or remove it" in refused.stderr
    for trainer in ("cpu", "ddp_cpu"):
        name = f"experiment_name={trainer}"
        done = resnet_lab(
            "train", *SMALL, f"data.root={tree}", "data.allow_unreadable=true", f"trainer={trainer}", name
        )
        assert done.returncode == 0, done.stderr
        (record,) = tmp_path.glob(f"outputs/{trainer}/*/seed0/record.json")
        assert record.read_text().count("(the file is empty)") == 2
    done = resnet_lab("eval", "runs=outputs/cpu", "protocol=multi_scale")
    assert done.returncode == 0, done.stderr
    assert "shorter sides [16, 18, 27, 34, 46]), 11 images" in done.stdout
    assert "1 images could not be read and are left out" in done.stdout


def test_weights_of_others_err_as_in_their_own_pipeline(
    resnet_lab: Callable[..., Any], tree: Path, tmp_path: Path
) -> None:
    """torchvision's class and transforms, against our net, our folders and our centre crop."""
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18(num_classes=3)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    transform = transforms.Compose(
        [
            transforms.Resize(72),
            transforms.CenterCrop(64),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    images, labels = zip(*ImageFolder(str(tree / "val"), transform), strict=True)
    # as trained: with the statistics of these images, so that not all are taken for one class
    theirs.train()(torch.stack(images))
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    with torch.no_grad():
        wrong = (theirs.eval()(torch.stack(images)).argmax(1) != torch.tensor(labels)).sum().item()
    done = resnet_lab(
        "eval",
        *("weights=resnet18.pth", "model=imagenet_resnet", "model.depth=18", "protocol=center_crop"),
        *("data=imagenet", f"data.root={tree}", "data.image_size=64", "data.shorter_side=[64,80]"),
        *("data.eval_shorter_side=72", f"data.mean={mean}", f"data.std={std}", "data.num_workers=0"),
    )
    assert done.returncode == 0, done.stderr
    assert "resnet18.pth has torchvision's names" in done.stdout
    assert "center_crop (shorter side 72, crop 64), 12 images" in done.stdout
    assert f"error {100 * wrong / 12:.4f} %" in done.stdout
