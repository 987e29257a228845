"""Images that are kept on the device of the training."""

import logging
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import TINY, frozen
from pytorch_lightning import Trainer
from runs import curve, weights

from resnet_lab.data import Scenes, Synthetic, on_device
from resnet_lab.data.batches import Batch, BatchedImages, Images, Request
from resnet_lab.data.mixing import Mixup
from resnet_lab.data.on_device import DeviceCopies, ImagesOnDevice
from resnet_lab.runs.directory import Run
from resnet_lab.runs.start import prepare
from resnet_lab.runs.worker import execute
from resnet_lab.training.callbacks import Stop

RECIPE = ("data.crop_padding=2", "data.flip=true", "data.std=[0.3,0.3,0.2]", "mixup=0.2", "iterations=7")
MB = 1 << 20


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    like_a_gpu(monkeypatch)


def like_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the CPU as a device with a memory of its own."""
    monkeypatch.setattr(on_device, "DEVICES", ("cpu",))
    monkeypatch.setattr(on_device, "free_memory", lambda device: 100 * MB)


def data_of(device: str, **settings: Any) -> Synthetic:
    data = Synthetic(root="", train_images=40, test_images=20, image_size=8, batch_size=16, **settings)
    data.prepare()
    strategy = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)  # type: ignore[assignment]
    return data


def executed(folder: Path, exit_code: int = 0) -> Run:
    config = frozen(folder, *TINY, *RECIPE)
    run = prepare(config)
    assert run is not None
    assert execute(run, config) == exit_code
    return run


def stop_at(iteration: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the next run be asked to stop there."""
    watched = Stop.on_train_batch_end

    def on_train_batch_end(self: Any, trainer: Trainer, *rest: Any) -> None:
        if trainer.global_step == iteration:
            os.kill(os.getpid(), signal.SIGTERM)
        watched(self, trainer, *rest)

    monkeypatch.setattr(Stop, "on_train_batch_end", on_train_batch_end)


def assert_same(mine: Run, other: Run) -> None:
    mine_weights, others = weights(mine), weights(other)
    assert mine_weights.keys() == others.keys()
    assert all(torch.equal(mine_weights[name], others[name]) for name in others)
    assert curve(mine) == curve(other)


def test_on_a_cpu_nothing_is_copied() -> None:
    data = data_of("cpu")
    assert isinstance(data.train_dataloader().dataset, BatchedImages)
    assert data.device_copies.copies == []


@pytest.mark.parametrize("settings", [{}, {"num_workers": 1}, {"policy": "trivial_augment"}], ids=str)
@pytest.mark.usefixtures("as_on_a_gpu")
def test_only_what_the_host_has_nothing_to_do_with_stays_on_the_device(settings: dict[str, Any]) -> None:
    data = data_of("cpu", **settings)
    assert isinstance(data.train_dataloader().dataset, ImagesOnDevice) == (not settings)
    assert isinstance(data.val_dataloader().dataset, ImagesOnDevice) == ("num_workers" not in settings)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_scenes_stay_on_the_host_with_their_annotations() -> None:
    scenes = Scenes(root="", train_images=4, test_images=2, image_size=32, sizes=(8, 16), batch_size=2)
    scenes.prepare()
    scenes.trainer = data_of("cpu").trainer
    batch = next(iter(scenes.train_dataloader()))
    assert len(batch.annotations) == 2


@pytest.mark.usefixtures("as_on_a_gpu")
def test_each_part_is_copied_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data = data_of("cpu")
    data.final_train_images = 10
    for _ in range(2):
        data.train_dataloader(), data.val_dataloader()
    test, few = data.test_dataloader()
    assert test.dataset.images is data.val_dataloader().dataset.images  # type: ignore[attr-defined]
    assert len(few.dataset.images.labels) == 10  # type: ignore[attr-defined]
    assert len(data.device_copies.copies) == 3
    assert [said.message for said in caplog.records] == ["keeping the images on cpu: 0 MB"]


def test_images_must_leave_room_for_the_net(as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    images = Images(torch.zeros(4, 1, 512, 512, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    device, parts = torch.device("cpu"), [images, images]
    assert on_device.size_of(parts) == MB + 32
    monkeypatch.setattr(on_device, "free_memory", lambda device: 4 * MB)
    assert not DeviceCopies().fit(parts, device)
    monkeypatch.setattr(on_device, "free_memory", lambda device: 4 * MB + 128)
    assert DeviceCopies().fit(parts, device)
    assert not DeviceCopies().fit(parts, torch.device("meta"))


@pytest.mark.usefixtures("as_on_a_gpu")
def test_batches_without_a_trainer_are_on_the_cpu_and_the_same() -> None:
    data = data_of("cpu")
    gathered = [batch.labels for batch in data.val_dataloader()]
    assert torch.equal(torch.cat(gathered), torch.cat([labels for _, labels in data.batches("val")]))
    assert isinstance(data.dataset(data.val), BatchedImages)


def test_a_run_is_the_same_bit_by_bit_though_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    usual = executed(tmp_path / "usual")
    assert "keeping the images on" not in caplog.text
    like_a_gpu(monkeypatch)
    kept = executed(tmp_path / "kept")
    assert "keeping the images on cpu" in caplog.text
    assert_same(kept, usual)
    with monkeypatch.context() as patch:
        stop_at(4, patch)
        stopped = executed(tmp_path / "stopped", exit_code=75)
    assert execute(stopped, stopped.record()["config"]) == 0
    assert_same(stopped, usual)


def test_what_follows_the_loader_waits_for_no_device() -> None:
    """Tensors of torch's device `meta` have no numbers to wait for."""
    data = data_of("cpu", crop_padding=2, flip=True, mean="per_channel", std=[0.3, 0.3, 0.2])
    pixels = torch.empty(16, 3, 8, 8, dtype=torch.uint8, device="meta")
    labels, indices = (torch.empty(16, dtype=torch.int64, device="meta") for _ in range(2))
    batch = data.ready(Batch(pixels, labels, indices, 3, 1.0, first=5), training=True)
    assert batch.images.shape == (16, 3, 8, 8)
    with pytest.raises(TypeError):
        data.on_before_batch_transfer(Batch(pixels, labels, indices, 3, 1.0), 0)


def test_mixup_draws_the_same_by_the_first_index_that_the_host_knows() -> None:
    images, labels, indices = torch.rand(4, 3, 8, 8), torch.tensor([1, 0, 2, 2]), torch.tensor([9, 4, 7, 1])
    batch, mixup = Batch(images, labels, indices, 3, 1.0), Mixup(0.2, 10, seed=1)
    known = data_of("cpu").on_before_batch_transfer(batch, 0)
    assert known.first == 9
    elsewhere = known._replace(indices=indices.to("meta"))
    assert all(torch.equal(a, b) for a, b in zip(mixup(elsewhere), mixup(batch), strict=True))


@pytest.mark.gpu
def test_a_batch_gathered_on_the_gpu_has_the_bits_of_one_that_was_sent() -> None:
    gpu = torch.device("cuda", 0)
    data = data_of("cuda:0", crop_padding=2, flip=True)
    dataset, request = data.train_dataloader().dataset, Request(torch.tensor([9, 4, 33]), 3, 1.0)
    assert isinstance(dataset, ImagesOnDevice)
    here, sent = dataset[request], data.dataset(data.train)[request]
    assert {here.images.device, here.labels.device, here.indices.device} == {gpu}
    assert (here.first, here.labels.tolist()) == (9, sent.labels.tolist())
    sent = sent._replace(images=sent.images.to(gpu), indices=sent.indices.to(gpu))
    assert torch.equal(data.ready(here, training=True).images, data.ready(sent, training=True).images)
