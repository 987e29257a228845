"""Folders of small images: what becomes pixels, what is refused by name, and when the cache is believed."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from samples import header_of_png

from resnet_lab.checks import UserError
from resnet_lab.data import ImageFolder, image_folder, pixels
from resnet_lab.runs.identity import run_name
from resnet_lab.runs.start import prepare
from resnet_lab.runs.worker import execute

CLASSES = ("cat", "dog", "emu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESNET_LAB_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache/decoded"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three classes of 4 + 2 colour PNGs of 8x8."""
    return write(tmp_path / "pets")


def picture(seed: int, shape: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(root: Path, test: str = "test", shape: tuple[int, ...] = (8, 8, 3), suffix: str = "png") -> Path:
    for part, count in (("train", 4), (test, 2)):
        for label, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for k in range(count):
                image = Image.fromarray(picture(1000 * (part == test) + 10 * label + k, shape))
                image.save(folder / f"{k}.{suffix}")
    return root


def loaded(root: Path, **settings: Any) -> ImageFolder:
    data = ImageFolder(root=str(root), **settings)
    data.prepare()
    return data


def first(data: ImageFolder) -> torch.Tensor:
    image: torch.Tensor = data.train_images().pixels[0]
    return image


def test_batches_come_out_normalized(tree: Path) -> None:
    data = ImageFolder(root=str(tree))
    ((images, labels),) = data.batches("test")
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    torch.testing.assert_close(images, data.test.pixels.float() / 255 - data.mean)


def test_facts_are_there_before_the_images_are_read(tree: Path, cache: Path) -> None:
    data = ImageFolder(root=str(tree))
    assert (data.in_channels, data.num_classes, data.image_size) == (3, 3, 8)
    assert not cache.exists()
    elsewhere = ImageFolder(root="/nowhere", in_channels=1, num_classes=5, image_size=9)
    assert (elsewhere.in_channels, elsewhere.num_classes, elsewhere.image_size) == (1, 5, 9)


def test_pixels_and_labels_are_those_of_the_files(tree: Path) -> None:
    data = loaded(tree)
    train, test = data.train_images(), data.test
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(train.pixels[6], torch.from_numpy(picture(12)).permute(2, 0, 1))
    assert torch.equal(test.pixels[5], torch.from_numpy(picture(1021)).permute(2, 0, 1))
    assert data.val is data.test
    held = loaded(tree, holdout=2, subset=7)
    assert (len(held.train_images().labels), len(held.val.labels)) == (5, 2)


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "webp"])
def test_other_formats_are_what_pillow_reads(tmp_path: Path, suffix: str) -> None:
    root = write(tmp_path / "pets", test="val", suffix=suffix)
    theirs = np.asarray(Image.open(root / f"train/cat/0.{suffix}").convert("RGB")).astype(int)
    ours = first(loaded(root)).permute(1, 2, 0).numpy()
    assert np.abs(ours - theirs).max() <= 2


def test_grey_images_have_one_channel_unless_three_are_asked_for(tmp_path: Path, tree: Path) -> None:
    grey = write(tmp_path / "grey", shape=(8, 8))
    assert torch.equal(first(loaded(grey))[0], torch.from_numpy(picture(0, (8, 8))))
    assert torch.equal(first(loaded(grey, in_channels=3)), torch.from_numpy(picture(0, (8, 8))).expand(3, 8, 8))
    assert loaded(tree, in_channels=1).train_images().pixels.shape == (12, 1, 8, 8)
    with_alpha = Image.fromarray(picture(0, (8, 8))).convert("LA")
    with_alpha.save(grey / "train/cat/0.png")
    assert torch.equal(first(loaded(grey))[0], torch.from_numpy(picture(0, (8, 8))))
    Image.fromarray(picture(7)).save(grey / "train/dog/1.png")
    with pytest.raises(
        UserError, match=r"dog/1\.png is in colour, .* first image is grey; set data.in_channels=3"
    ):
        loaded(grey)


def test_images_are_resized_where_that_is_asked_for(tree: Path) -> None:
    Image.new("RGB", (30, 11), (10, 20, 30)).save(tree / "train/cat/0.png")
    data = loaded(tree, image_size=6)
    assert data.train_images().pixels.shape == (12, 3, 6, 6)
    assert first(data)[:, 3, 3].tolist() == [10, 20, 30]


def test_hidden_files_are_left_out_and_links_are_followed(tree: Path) -> None:
    (tree / "train/.DS_Store").write_text("x")
    (tree / "train/.cache").mkdir()
    (tree / "train/cat/._0.png").write_text("x")
    (tree / "train/cat/4.png").symlink_to(tree / "train/dog/0.png")
    data = loaded(tree)
    assert data.num_classes == 3
    assert torch.equal(data.train_images().pixels[4], torch.from_numpy(picture(10)).permute(2, 0, 1))


def test_validation_images_beside_test_images_are_told_of(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tree / "more", test="val")
    (tree / "more/val").rename(tree / "val")
    assert len(loaded(tree).test.labels) == 6
    assert "val is not used, because there is test/; data.holdout" in caplog.text


def put(path: str, content: bytes) -> Callable[[Path], Any]:
    return lambda tree: (tree / path).write_bytes(content)


WHOLE = "train/dog/2.png"
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (
        lambda tree: (tree / WHOLE).write_bytes((tree / WHOLE).read_bytes()[:90]),
        r"dog/2\.png cannot be read \(.*\); repair or remove it",
    ),
    "empty": (put(WHOLE, b""), r"dog/2\.png cannot be read \(the file is empty\); repair or remove it"),
    "text": (put(WHOLE, b"hello, I am text" * 9), r"dog/2\.png cannot be read \(.*\); repair or remove it"),
    "the first one": (put("train/cat/0.png", b"x"), r"cat/0\.png cannot be read .* repair or remove it"),
    "too many pixels": (
        put(WHOLE, header_of_png(30000, 30000)),
        r"dog/2\.png cannot be read \(30000x30000 is more than data\.max_pixels=100000000\); repair or remove it",
    ),
    "another size": (
        lambda tree: Image.new("RGB", (9, 8)).save(tree / WHOLE),
        r"dog/2\.png is 9 pixels wide and 8 high, the first image 8 and 8; set data.image_size=8 to resize",
    ),
    "not square": (
        lambda tree: Image.new("RGB", (9, 7)).save(tree / "train/cat/0.png"),
        r"cat/0\.png is 9 pixels wide and 7 high, and images must be square; set data.image_size=9",
    ),
    "another ending": (
        put("train/dog/notes.txt", b"x"),
        r"dog/notes\.txt does not end in \.jpg, .*; convert it to one of these, or remove it",
    ),
    "empty class": (
        lambda tree: [(tree / p / "fox").mkdir() for p in ("train", "test")],
        "train/fox is empty; put images",
    ),
    "class in test alone": (
        lambda tree: (tree / "test/fox").mkdir(),
        "test/fox is a class that .*train does not have; put images of it there, or remove it",
    ),
    "class in train alone": (
        lambda tree: (tree / "test/emu").rename(tree / "emu"),
        "train/emu is a class that .*test does not have; put images of it there, or remove it",
    ),
    "link to nowhere": (
        lambda tree: (tree / "train/dog/9.png").symlink_to("/nonexistent"),
        r"dog/9\.png cannot be read \(No such file or directory\); repair or remove it",
    ),
    "link in a circle": (
        lambda tree: (tree / "train/dog/9.png").symlink_to("9.png"),
        r"dog/9\.png cannot be read \(Too many levels of symbolic links\)",
    ),
    "pipe": (lambda tree: os.mkfifo(tree / "train/dog/9.png"), r"dog/9\.png is not a regular file; remove it"),
    "folder in a class": (lambda tree: (tree / "train/dog/more").mkdir(), "dog/more is a folder in a class; move"),
    "loose file": (put("train/0.png", b"x"), r"train/0\.png is not a folder, as classes are; move it away"),
    "no test": (
        lambda tree: (tree / "test").rename(tree / "x"),
        "has neither test/ nor val/; put the test images",
    ),
    "no train": (
        lambda tree: (tree / "train").rename(tree / "x"),
        "train has no folders of images; put them there",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_wrong_is_named_with_the_remedy(tree: Path, what: str) -> None:
    break_it, message = BROKEN[what]
    break_it(tree)
    with pytest.raises(UserError, match=message) as raised:
        loaded(tree)
    assert "\n" not in str(raised.value)


def test_a_file_without_permission_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pixels, "open_regular", refuse)
    with pytest.raises(UserError, match=r"cat/0\.png cannot be read \(Permission denied\); repair or remove it"):
        pixels.read(tree / "train/cat/0.png")


def test_too_many_for_memory_are_refused_before_any_is_decoded(
    tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_folder, "MOST_BYTES", 3000)
    with pytest.raises(
        UserError, match=r"18 images of 3x8x8 take .* smaller data.image_size, or use data=imagenet"
    ):
        loaded(tree)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_channels": 2}, r"in_channels must be 1 \(grey\), 3 \(colour\) or null \(as the files\), got 2"),
        ({"image_size": 0}, "image_size must be a positive integer, got 0"),
        ({"root": None}, "root must be a folder, got None; set data.root=FOLDER"),
        ({"num_classes": -1}, "num_classes must be a positive integer, got -1"),
    ],
)
def test_settings_out_of_range(tree: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageFolder(**{"root": str(tree)} | settings)


def test_another_number_of_classes_is_refused(tree: Path) -> None:
    with pytest.raises(
        UserError, match=r"num_classes=2, but .*train has 3 folders; set data.num_classes=3 or null"
    ):
        loaded(tree, num_classes=2)


def decodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each image that is decoded after the first one, which tells the facts."""
    seen: list[int] = []
    before = pixels.decode_all

    def noted(source: pixels.Source) -> Any:
        seen.append(len(source.names))
        return before(source)

    monkeypatch.setattr(pixels, "decode_all", noted)
    return seen


def test_images_are_decoded_once(tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = decodings(monkeypatch)
    once, again = loaded(tree), loaded(tree)
    assert seen == [18]
    assert once.checksum == again.checksum
    assert torch.equal(once.test.pixels, again.test.pixels)
    loaded(tree, image_size=5)  # has a cache of its own
    loaded(tree)
    assert seen == [18, 18]
    assert sorted(path.suffix for path in cache.iterdir()) == [".lock", ".lock", ".pixels", ".pixels"]


def test_the_cache_is_believed_for_no_other_files(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another image under the old name, size and time; a name exchanged; an image less; another decoder."""
    seen = decodings(monkeypatch)
    loaded(tree)
    one, other = (tree / f"train/cat/{k}.png" for k in (0, 1))
    before = one.stat()
    content = one.read_bytes()
    Image.fromarray(255 - picture(0)).save(one)
    one.write_bytes(one.read_bytes().ljust(len(content), b"\0")[: len(content)])
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert torch.equal(first(loaded(tree)), torch.from_numpy(255 - picture(0)).permute(2, 0, 1))
    one.rename(tree / "x")
    other.rename(one)
    (tree / "x").rename(other)
    assert torch.equal(first(loaded(tree)), torch.from_numpy(picture(1)).permute(2, 0, 1))
    (tree / "train/emu/3.png").unlink()
    assert len(loaded(tree).train_images().labels) == 11
    monkeypatch.setattr(pixels, "version", lambda name: "another")
    loaded(tree)
    assert seen == [18, 18, 18, 17, 17]


def test_a_cache_that_was_tampered_with_is_not_believed(
    tree: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checksum = loaded(tree).checksum
    (file,) = cache.glob("*.pixels")
    whole = file.read_bytes()
    seen = decodings(monkeypatch)
    for wrong in (
        whole[:-1],
        whole + b"x",
        whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        bytes(len(whole)),
        b"",
    ):
        file.write_bytes(wrong)
        assert loaded(tree).checksum == checksum
        assert file.read_bytes() == whole
    assert len(seen) == 5


def test_nothing_is_written_through_a_link(tree: Path, cache: Path, tmp_path: Path) -> None:
    loaded(tree)
    (file,) = cache.glob("*.pixels")
    precious = tmp_path / "precious"
    precious.write_text("mine")
    file.unlink()
    file.symlink_to(precious)
    (cache / f".{file.name}.{os.getpid()}").symlink_to(precious)
    (cache / f".{file.name}.1").write_text("of one that was killed")
    loaded(tree)
    assert precious.read_text() == "mine"
    assert not file.is_symlink()
    assert not list(cache.glob(".*"))
    lock = file.with_suffix(".lock")
    lock.unlink()
    lock.symlink_to(precious)
    with pytest.raises(UserError, match=r"\.lock is not a regular file; remove it"):
        loaded(tree)
    assert precious.read_text() == "mine"


def test_without_a_place_for_the_cache_the_images_are_decoded_each_time(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("RESNET_LAB_DATA", str(tmp_path / "file"))
    assert len(loaded(tree).test.labels) == 6
    assert "the decoded images cannot be kept in" in caplog.text


def load_and_note(root: str, log: str) -> None:
    before = pixels.decode_all

    def noted(source: pixels.Source) -> Any:
        with open(log, "a") as file:
            file.write("once\n")
        time.sleep(0.5)  # until the others have come, too
        return before(source)

    pixels.decode_all = noted
    data = loaded(Path(root))
    with open(log + ".sums", "a") as file:
        file.write(data.checksum + "\n")


def test_processes_that_start_at_once_decode_once(tree: Path, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    log = str(tmp_path / "log")
    jobs = [fork.Process(target=load_and_note, args=(str(tree), log)) for _ in range(6)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 6
    assert Path(log).read_text() == "once\n"
    assert len(Path(log + ".sums").read_text().split()) == 6
    assert len(set(Path(log + ".sums").read_text().split())) == 1


def test_runs_on_folders_of_other_names_are_other_runs(
    composed: Callable[..., dict[str, Any]], tree: Path
) -> None:
    name = run_name(composed("data=image_folder", f"data.root={tree}"))
    assert run_name(composed("data=image_folder", f"data.root=/elsewhere/{tree.name}/")) == name
    assert run_name(composed("data=image_folder", f"data.root={tree.parent}/birds")) != name


def test_a_run_trains_on_a_folder(composed: Callable[..., dict[str, Any]], tree: Path) -> None:
    data = ["data=image_folder", f"data.root={tree}", "data.batch_size=6"]
    config = composed(*data, "model.depth=8", "model.width=4", "iterations=3", "runtime.threads=1")
    run = prepare(config)
    assert run is not None
    assert execute(run, config) == 0
    facts = run.record()["data"]
    assert (facts["name"], facts["train_images"], facts["test_images"]) == ("ImageFolder", 12, 6)


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]])
@pytest.mark.parametrize("data", ["image_folder", "imagenet", "voc", "coco"])
def test_a_folder_that_is_not_there_is_refused_before_anything_is_written(
    data: str, sweep: list[str], main: Callable[..., str], tmp_path: Path
) -> None:
    task = {"image_folder": [], "imagenet": ["model=imagenet_resnet"]}.get(data, ["task=detection"])
    assert main("train", f"data={data}", "data.root=nowhere", *task, *sweep).endswith(
        "data.root=nowhere is not a folder, and these images are not downloaded; give data.root=FOLDER"
    )
    assert not list(tmp_path.iterdir())
