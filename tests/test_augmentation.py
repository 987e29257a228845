"""Policies, mixing of images and smoothing of labels: exact per image, and what is trained on."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import TINY, frozen
from runs import curve, only_run, start, wait_for_rows, wait_until_free, weights
from torch.nn import functional as F

from resnet_lab.data.batches import Batch, BatchedImages, Images, Request
from resnet_lab.data.mixing import Mixup
from resnet_lab.data.policies import POLICIES, Policy
from resnet_lab.tasks.classification import losses

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("channels", [1, 3])
def test_what_a_policy_draws_depends_on_seed_epoch_and_image_alone(name: str, channels: int) -> None:
    pixels = torch.randint(0, 256, (24, channels, 8, 8), dtype=torch.uint8)
    data = BatchedImages(Images(pixels, torch.arange(24)), policy=Policy(name, 0))

    def drawn(indices: list[int], epoch: int = 0) -> torch.Tensor:
        images: torch.Tensor = data[Request(torch.tensor(indices), epoch, 1.0)].images
        return images

    torch.manual_seed(5)
    before = torch.get_rng_state()
    together = drawn(list(range(24)))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert together.dtype == torch.uint8
    assert torch.equal(drawn([7, 3]), together[[7, 3]])
    assert not torch.equal(together, pixels)
    assert not torch.equal(drawn(list(range(24)), epoch=1), together)
    other = Policy(name, 1)(pixels, 0, torch.arange(24))
    assert not torch.equal(other, together)


def test_mixup_mixes_neighbours_and_their_targets_by_one_factor() -> None:
    images, labels = torch.rand(4, 1, 2, 2), torch.tensor([0, 1, 2, 2])
    batch = Batch(images, labels, torch.tensor([9, 4, 7, 1]), 3, 1.0)
    mixed, targets = Mixup(1.0, 3, seed=0)(batch)
    factor = targets[0, 0]
    assert 0 < factor < 1
    assert torch.allclose(mixed, factor * images + (1 - factor) * images.roll(1, 0))
    one_hot = F.one_hot(labels, 3)
    assert torch.allclose(targets, factor * one_hot + (1 - factor) * one_hot.roll(1, 0))
    again, _ = Mixup(1.0, 3, seed=0)(batch)
    assert torch.equal(mixed, again)
    assert not torch.equal(Mixup(1.0, 3, seed=0)(batch._replace(epoch=4))[0], mixed)


def test_what_is_trained_on_and_what_is_logged() -> None:
    logits, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    plain = F.cross_entropy(logits, labels)
    _, logged, trained_on = losses(logits, labels, smoothing=0.1)
    spread = -F.log_softmax(logits, 1).mean()
    assert torch.equal(logged, plain)
    assert torch.allclose(trained_on, 0.9 * plain + 0.1 * spread)
    targets = torch.softmax(torch.randn(6, 5), 1)
    _, logged, trained_on = losses(logits, labels, targets)
    assert torch.equal(logged, plain)
    assert torch.allclose(trained_on, -(targets * F.log_softmax(logits, 1)).sum(1).mean())


ALL = ("data.policy=rand_augment", "mixup=0.4", "label_smoothing=0.1")


def test_all_together_are_resumed_exactly(tmp_path: Path) -> None:
    words = (*ALL, "iterations=90")
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    assert start(tmp_path / "whole", *words, "data.num_workers=2").wait() == 0
    process = start(tmp_path / "stopped", *words)
    run = wait_for_rows(tmp_path / "stopped", 4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until_free(run)
    assert len(run.metrics()) < 30
    assert start(tmp_path / "stopped", *words).wait() == 0
    whole = only_run(tmp_path / "whole")
    assert curve(run) == curve(whole)
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(whole).items())


def test_each_makes_another_run_and_none_of_them_the_same(tmp_path: Path) -> None:
    names = [frozen(tmp_path, *TINY, *words)["run_name"] for words in ([], *([word] for word in ALL))]
    assert len(set(names)) == 4
    assert frozen(tmp_path, *TINY, "mixup=0", "label_smoothing=0", "data.policy=null")["run_name"] == names[0]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("data.policy=auto", "data.policy must be null, rand_augment or trivial_augment, got 'auto'"),
        ("mixup=-1", "mixup must be a number, 0 or more, got -1"),
        ("label_smoothing=1", "label_smoothing must be a number from 0 to below 1, got 1"),
    ],
)
def test_refused(resnet_lab: Call, tmp_path: Path, word: str, told: str) -> None:
    ended = resnet_lab("train", *TINY, word)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert not (tmp_path / "outputs").exists()
