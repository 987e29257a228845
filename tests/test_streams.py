"""The named random streams: uniform, and independent over streams, seeds, epochs and images."""

from itertools import product

import pytest
import torch

from resnet_lab.data.augment import crop_and_flip
from resnet_lab.data.batches import TrainBatches
from resnet_lab.data.streams import random_integers, random_normal, seed_of
from resnet_lab.data.views import RandomCrop

STREAMS = ("crop top", "crop left", "mirror", "shorter side", "colour component 0", "colour component 1")
LARGEST = 2**31


def test_the_draws_are_uniform() -> None:
    draws = random_integers(9, seed=7, epoch=3, index=torch.arange(90_000), stream="crop top")
    counts = torch.bincount(draws, minlength=9)
    assert len(counts) == 9
    # 10,000 each, with a standard deviation of 94
    assert (counts - 10_000).abs().max() < 500


def test_normal_draws() -> None:
    draws = random_normal(seed=3, epoch=1, index=torch.arange(50_000), stream="colour component 0")
    assert draws.mean().item() == pytest.approx(0, abs=0.02)
    assert draws.std().item() == pytest.approx(1, abs=0.02)
    assert (draws.abs() > 1.96).float().mean().item() == pytest.approx(0.05, abs=0.005)


def test_no_two_streams_seeds_or_epochs_have_a_sequence_in_common() -> None:
    """A million values; two in a row occur once, wherever they are and whatever they are of."""
    keys = list(product(STREAMS, (0, 1, 2, 3, 4, 1000), (*range(25), 163, 164)))
    index = torch.arange(-(-1_000_000 // len(keys)))
    draws = torch.stack([random_integers(LARGEST, seed, epoch, index, name) for name, seed, epoch in keys])
    in_a_row = draws[:, :-1] * LARGEST + draws[:, 1:]
    assert draws.numel() >= 1_000_000
    # by chance two are alike once in four million such tests
    assert len(in_a_row.unique()) == in_a_row.numel()


def test_two_seeds_share_no_epoch_of_the_whole_recipe() -> None:
    """64,000 iterations of CIFAR-10 are 164 epochs; crops of the same images agree as often as chance has them."""
    images = torch.arange(81.0).reshape(1, 1, 9, 9).repeat(100, 1, 1, 1)
    index = torch.arange(100)
    crops = {
        (seed, epoch): crop_and_flip(images, 4, True, seed, epoch, index)[:, 0, 4, 3:5]
        for seed in (0, 1, 2)
        for epoch in range(164)
    }
    drawn = torch.stack(list(crops.values())).flatten(1)
    assert len(drawn.unique(dim=0)) == 3 * 164
    same = (drawn[:164, None] == drawn[None, 164:]).float().mean().item()
    # of 81 crops, with the pixel beside the middle telling whether it is mirrored
    assert same < 0.02


def test_photographs_of_two_seeds_are_cropped_independently() -> None:
    def drawn(seed: int, epoch: int) -> list[tuple[float, ...]]:
        return list(RandomCrop((256, 480), 224, flip=True, seed=seed).draws(epoch, torch.arange(50)))

    every = [drawn(seed, epoch) for seed in (0, 1, 2) for epoch in range(20)]
    assert len({draw for draws in every for draw in draws}) == 60 * 50


def test_order_and_dropout_have_streams_of_their_own() -> None:
    keys = list(product(range(4), range(20)))
    assert len({tuple(next(iter(batches(seed, epoch))).indices.tolist()) for seed, epoch in keys}) == len(keys)
    assert (
        len({seed_of(name, *key) for name in ("order", "dropout") for key in product(range(9), range(9))}) == 162
    )


def batches(seed: int, epoch: int) -> TrainBatches:
    found = TrainBatches(100, 50, seed, 0, 1)
    found.set_epoch(epoch)
    return found
