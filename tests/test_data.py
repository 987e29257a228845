import gzip
import multiprocessing
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from samples import write_cifar10

from resnet_lab.checks import UserError
from resnet_lab.data import CIFAR10, CIFAR100, MNIST, Digits, FashionMNIST, Synthetic
from resnet_lab.data.augment import crop_and_flip
from resnet_lab.data.batches import Batch, EvaluationBatches, TrainBatches
from resnet_lab.data.files import check_md5, download


def write_idx(path: Path, array: np.ndarray) -> None:
    raw = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def write_mnist(folder: Path, suffix: str = "") -> None:
    random = np.random.default_rng(0)
    for part, count in (("train", 30), ("t10k", 7)):
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", random.integers(0, 256, (count, 28, 28)))
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(count) % 10)


def test_digits_are_in_the_wheel() -> None:
    data = Digits(root="", batch_size=64)
    data.prepare()
    train = data.train_images()
    assert train.pixels.shape == (1437, 1, 8, 8)
    assert data.test.pixels.shape == (360, 1, 8, 8)
    assert train.pixels.dtype == torch.uint8
    assert train.pixels.max() == 255
    assert data.iterations_per_epoch == 23


@pytest.mark.parametrize("layout", [("MNIST/raw", ""), ("", ".gz"), ("", ""), ("MNIST/raw", ".gz")])
def test_mnist_files_are_used_where_they_are(tmp_path: Path, layout: tuple[str, str]) -> None:
    folder, suffix = layout
    write_mnist(tmp_path / folder, suffix)
    data = MNIST(root=str(tmp_path))
    data.prepare()
    assert data.train_images().pixels.shape == (30, 1, 28, 28)
    assert data.test.labels.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_files_of_a_dataset_go_before_others_of_the_same_names(tmp_path: Path) -> None:
    write_mnist(tmp_path / "FashionMNIST/raw")
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((5, 28, 28)))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.zeros(5))
    data = FashionMNIST(root=str(tmp_path))
    data.prepare()
    assert len(data.train_images().labels) == 30


@pytest.mark.parametrize("damage", ["truncated", "truncated gz", "not idx", "labels out of range", "missing"])
def test_a_bad_file_is_named_with_the_remedy(tmp_path: Path, damage: str) -> None:
    write_mnist(tmp_path, ".gz" if damage == "truncated gz" else "")
    path = next(tmp_path.glob("t10k-labels*"))
    raw = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "labels out of range":
        path.write_bytes(raw[:-1] + b"\x0b")
    else:
        path.write_bytes(b"<html>" if damage == "not idx" else raw[:-3])
    with pytest.raises(UserError, match=rf"{path.name.removesuffix('.gz')}.*(delete it|put the file there)"):
        FashionMNIST(root=str(tmp_path)).prepare()


def bomb(path: Path, shape: tuple[int, ...], content: int) -> None:
    """An IDX file in .gz that claims a shape and has so many bytes of zeros."""
    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header)
        for _ in range(content >> 20):
            file.write(bytes(1 << 20))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        # 200 MB behind an honest, a boasting, a misshapen and an understating header
        ((267493, 28, 28), r"claims to have 267493 items, more than data.max_images=60000, and is not unpacked"),
        ((4_000_000_000, 28, 28), "claims to have 4000000000 items, more than data.max_images=60000"),
        ((1, 14483, 14483), r"has images of \[14483, 14483\] pixels instead of \[28, 28\]; delete it"),
        ((200 << 20,), "is not an IDX file of bytes in 3 dimensions"),
        ((30, 28, 28), r"does not hold the number of bytes of its shape \[30, 28, 28\]"),
    ],
)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    write_mnist(tmp_path, ".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    bomb(path, shape, 200 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=rf"{path.name} .*{message}"):
            FashionMNIST(root=str(tmp_path)).prepare()
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_more_images_than_the_known_dataset_are_a_setting(tmp_path: Path) -> None:
    write_mnist(tmp_path, ".gz")
    with pytest.raises(UserError, match=r"train-images.* more than data.max_images=29"):
        MNIST(root=str(tmp_path), max_images=29).prepare()
    MNIST(root=str(tmp_path), max_images=30).prepare()
    with pytest.raises(ValueError, match="max_images must be a positive integer, got 0"):
        MNIST(root=str(tmp_path), max_images=0)


def test_cifar10_in_its_binary_format(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    data = CIFAR10(root=str(tmp_path))
    data.prepare()
    raw = np.fromfile(tmp_path / "cifar-10-batches-bin/data_batch_2.bin", np.uint8).reshape(-1, 3073)
    train = data.train_images()
    assert train.pixels.shape == (60, 3, 32, 32)
    assert train.labels[12] == raw[0, 0]
    # red first, row by row
    assert train.pixels[12, 1, 0, 5] == raw[0, 1 + 1024 + 5]


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    record = np.zeros(3074, np.uint8)
    record[:2] = (3, 99)
    for name in ("train.bin", "test.bin"):
        record.tofile(folder / name)
    data = CIFAR100(root=str(tmp_path))
    data.prepare()
    assert data.train_images().labels.tolist() == [99]


@pytest.mark.parametrize("damage", ["truncated", "missing", "labels out of range"])
def test_a_bad_cifar_file_is_named(tmp_path: Path, damage: str) -> None:
    write_cifar10(tmp_path)
    path = tmp_path / "cifar-10-batches-bin/data_batch_3.bin"
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] if damage == "truncated" else b"\x0c" + raw[1:])
    if damage == "missing":
        path.unlink()
    with pytest.raises(UserError, match=r"data_batch_3\.bin"):
        CIFAR10(root=str(tmp_path)).prepare()


def test_pickled_files_are_not_opened_before_their_sum_is_right(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"anything")
    with pytest.raises(UserError, match="data_batch_1 is truncated or corrupted"):
        check_md5(tmp_path, [["data_batch_1", "0" * 32]])
    with pytest.raises(UserError, match="data_batch_2 is missing"):
        check_md5(tmp_path, [["data_batch_2", "0" * 32]])


def fetch_slowly(root: str) -> None:
    folder = Path(root) / "Pictures"
    folder.mkdir()
    time.sleep(0.5)  # until the others have come, too
    with (Path(root).parent / "fetched").open("a") as log:
        log.write("once\n")
    (folder / "file").write_text("whole")


def test_many_processes_download_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    jobs = [
        spawn.Process(target=download, args=("Pictures", tmp_path, "Pictures", fetch_slowly)) for _ in range(8)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 8
    assert (tmp_path / "fetched").read_text() == "once\n"
    assert (tmp_path / "Pictures/file").read_text() == "whole"


def test_a_failed_download_leaves_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    def fetch(root: str) -> None:
        (Path(root) / "Pictures").mkdir()
        raise OSError("no route to host")

    with pytest.raises(UserError, match=r"Pictures is not in .*no route to host.*data=digits"):
        download("Pictures", tmp_path, "Pictures", fetch)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="no route to host"):
        download("Pictures", tmp_path / "new/folders", "Pictures", fetch)
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    with pytest.raises(UserError, match="no route to host"):
        download("Pictures", tmp_path / "mine", "Pictures", fetch)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]


def test_the_mean_is_of_the_training_images_alone() -> None:
    data = Synthetic(root="", train_images=50, test_images=20, image_size=8, holdout=10)
    data.prepare()
    pixels = data.train_images().pixels
    assert len(pixels) == 40
    torch.testing.assert_close(data.mean, pixels.float().div(255).mean(0))
    per_channel = Synthetic(root="", train_images=50, image_size=8, mean="per_channel")
    per_channel.prepare()
    assert per_channel.mean.shape == (3, 1, 1)
    expected = per_channel.train_images().pixels.float().div(255).mean((0, 2, 3))
    torch.testing.assert_close(per_channel.mean.flatten(), expected)


def test_the_holdout_is_apart_from_the_training_images_and_the_same_for_all_seeds() -> None:
    parts = []
    for seed in (0, 1):
        data = Synthetic(root="", train_images=50, image_size=8, holdout=10, seed=seed)
        data.prepare()
        parts.append(data)
    assert torch.equal(parts[0].val.pixels, parts[1].val.pixels)
    everything, _ = parts[0].load()
    rows = {row.numpy().tobytes() for row in everything.pixels}
    split = [{row.numpy().tobytes() for row in part.pixels} for part in (parts[0].train_images(), parts[0].val)]
    assert split[0] | split[1] == rows
    assert not split[0] & split[1]


def test_without_holdout_the_test_images_validate() -> None:
    data = Synthetic(root="", train_images=50, image_size=8)
    data.prepare()
    assert data.val is data.test


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_batches_come_out_normalized_without_a_trainer(part: str) -> None:
    data = Synthetic(root="", train_images=50, test_images=20, image_size=8, holdout=10, flip=True, crop_padding=2)
    batches = list(data.batches(part, 16))
    assert [len(labels) for _, labels in batches] == {"train": [16, 16, 8], "val": [10], "test": [16, 4]}[part]
    images, labels = (torch.cat(column) for column in zip(*batches, strict=True))
    pixels, expected = getattr(data, part)
    assert torch.equal(labels, expected)
    torch.testing.assert_close(images, pixels.float() / 255 - data.mean)
    assert len(next(data.batches("test"))[1]) == 20


def test_some_images_of_a_part_are_evenly_spaced_over_it() -> None:
    data = Synthetic(root="", train_images=50, test_images=20, image_size=8)
    data.prepare()
    (first, second) = data.batches("train", 3, images=5)
    assert torch.equal(torch.cat([first[1], second[1]]), data.train.labels[torch.tensor([0, 10, 20, 30, 40])])
    assert sum(len(labels) for _, labels in data.batches("train", images=1000)) == 50


def test_batches_of_no_part_or_size_are_refused_at_once() -> None:
    data = Synthetic(root="", train_images=50, image_size=8)
    with pytest.raises(ValueError, match="part must be one of train, val, test; got 'tests'"):
        data.batches("tests")
    with pytest.raises(ValueError, match="size must be a positive integer, got 0"):
        data.batches("test", 0)
    with pytest.raises(ValueError, match="images must be a positive integer, got 0"):
        data.batches("test", images=0)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_each_image_once_an_epoch_and_the_same_batches_for_any_number_of_processes(world_size: int) -> None:
    ranks = [TrainBatches(101, 16, seed=3, rank=rank, world_size=world_size) for rank in range(world_size)]
    whole = TrainBatches(101, 16, seed=3, rank=0, world_size=1)
    for sampler in (*ranks, whole):
        sampler.set_epoch(2)
    for parts, batch in zip(zip(*ranks, strict=True), whole, strict=True):
        together = torch.cat([part.indices for part in parts])
        assert sorted(together.tolist()) == sorted(batch.indices.tolist())
        # the mean over processes of weighted means is the mean over the batch
        assert sum(part.weight for part in parts) == pytest.approx(world_size)
    seen = torch.cat([request.indices for request in whole])
    assert sorted(seen.tolist()) == list(range(101))
    assert len(whole) == 7


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = TrainBatches(50, 16, seed, 0, 1)
        sampler.set_epoch(epoch)
        return torch.cat([request.indices for request in sampler]).tolist()

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_sees_each_image_exactly_once(world_size: int) -> None:
    parts = [r.indices for rank in range(world_size) for r in EvaluationBatches(101, 8, rank, world_size)]
    assert sorted(torch.cat(parts).tolist()) == list(range(101))


def test_a_last_batch_too_small_for_the_processes_is_refused() -> None:
    with pytest.raises(UserError, match=r"batch_size=50 leaves a last batch of 1 of the 101 .* 2 processes"):
        TrainBatches(101, 50, seed=0, rank=0, world_size=2)


def test_augmentation_is_a_function_of_seed_epoch_and_image() -> None:
    images, index = torch.randn(20, 3, 8, 8), torch.arange(20)
    whole = crop_and_flip(images, 2, True, seed=1, epoch=4, index=index)
    shuffled = torch.randperm(20)
    torch.testing.assert_close(
        crop_and_flip(images[shuffled], 2, True, 1, 4, index[shuffled]), whole[shuffled], rtol=0, atol=0
    )
    assert not torch.equal(whole, crop_and_flip(images, 2, True, 1, 5, index))
    assert not torch.equal(whole, crop_and_flip(images, 2, True, 2, 4, index))


def test_crops_and_flips_are_what_they_are_called() -> None:
    images = torch.arange(1, 17.0).reshape(1, 1, 4, 4).repeat(400, 1, 1, 1)
    out = crop_and_flip(images, 1, True, seed=0, epoch=0, index=torch.arange(400))
    padded = torch.nn.functional.pad(images[:1], [1] * 4)
    windows = [padded[0, 0, top : top + 4, left : left + 4] for top in range(3) for left in range(3)]
    allowed = {w.numpy().tobytes() for window in windows for w in (window, window.flip(-1).contiguous())}
    seen = [row[0].contiguous().numpy().tobytes() for row in out]
    assert set(seen) == allowed


def test_normalizing_comes_before_padding() -> None:
    """A padded pixel is the mean: zero."""
    data = Synthetic(root="", train_images=30, image_size=8, crop_padding=8)
    data.prepare()
    pixels = data.train_images().pixels
    batch = Batch(pixels, torch.zeros(30), torch.arange(30), 0, 1.0)
    images = data.on_after_batch_transfer(batch, 0).images
    torch.testing.assert_close(images, pixels.float() / 255 - data.mean)
    assert (crop_and_flip(images, 8, False, 0, 0, torch.arange(30)) == 0).float().mean() > 0.2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a positive integer, got 0"),
        ({"holdout": -1}, "holdout must be zero or a positive integer, got -1"),
        ({"mean": "imagenet"}, "mean must be one of per_pixel, per_channel; got 'imagenet'"),
        ({"crop_padding": 1.5}, "crop_padding must be zero or a positive integer, got 1.5"),
        ({"num_workers": -1}, "num_workers must be"),
    ],
)
def test_settings_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Digits(root="", **settings)


def test_a_holdout_of_everything_is_refused() -> None:
    with pytest.raises(UserError, match="holdout must be below the 1437 training images, got 1437"):
        Digits(root="", holdout=1437).prepare()
