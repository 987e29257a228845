"""The line between two nets: its ends are the nets, and between linear nets it has a formula."""

import copy

import pytest
import torch
from samples import random_pictures, trained
from torch import nn
from torch.nn import functional as F

from resnet_lab.analyses import interpolation
from resnet_lab.checks import UserError
from resnet_lab.models import resnet_cifar


def test_between_two_linear_nets_lie_the_weights_between_theirs() -> None:
    first, last = (nn.Sequential(nn.Flatten(), nn.Linear(192, 10)) for _ in range(2))
    data = random_pictures()
    rows = interpolation(last, data, first, points=5)  # type: ignore[arg-type]
    assert [row["share"] for row in rows] == [0, 0.25, 0.5, 0.75, 1]
    for row in rows:
        logits = (1 - row["share"]) * first(data.images) + row["share"] * last(data.images)
        assert row["loss"] == pytest.approx(float(F.cross_entropy(logits, data.labels).detach()), rel=1e-5)
        straight = (1 - row["share"]) * rows[0]["loss"] + row["share"] * rows[-1]["loss"]
        assert row["barrier"] == pytest.approx(row["loss"] - straight)
        # the loss of a linear net is convex
        assert row["barrier"] <= 1e-6
    lowest = [min(row["loss"] for row in rows[: number + 1]) for number in range(5)]
    assert [row["rise"] for row in rows] == pytest.approx(
        [r["loss"] - low for r, low in zip(rows, lowest, strict=True)]
    )


def test_the_ends_are_the_nets_with_the_statistics_of_the_batch() -> None:
    first, last = trained(resnet_cifar(8, "B", width=4)), resnet_cifar(8, "B", width=4)
    data, before = random_pictures(), copy.deepcopy(last.state_dict())
    rows = interpolation(last, data, first, images=12, points=3)  # type: ignore[arg-type]
    assert all(torch.equal(value, before[name]) for name, value in last.state_dict().items())
    for row, net in ((rows[0], first), (rows[-1], last)):
        loss = F.cross_entropy(net.train()(data.images[:12]), data.labels[:12])
        assert row["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    assert len({row["loss"] for row in rows}) == 3


def test_a_fresh_net_has_no_training_behind_it() -> None:
    with pytest.raises(UserError, match="give runs=PATH"):
        interpolation(resnet_cifar(8, "A"), random_pictures(), None)  # type: ignore[arg-type]
