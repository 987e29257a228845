"""The loss around the weights, against the net's own, and against a net whose loss is known everywhere."""

import math

import pytest
import torch
from samples import random_pictures, trained
from torch import nn
from torch.nn import functional as F

from resnet_lab.analyses import landscape
from resnet_lab.analyses.landscape import direction
from resnet_lab.models import resnet_cifar


def test_the_middle_is_the_net_in_evaluation_mode() -> None:
    net, data = trained(resnet_cifar(8, "B", width=4)), random_pictures()
    rows = list(landscape(net, data, images=12, points=3))  # type: ignore[arg-type]
    assert [(row["x"], row["y"]) for row in rows] == [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    logits = net.eval()(data.images[:12])
    assert rows[4]["loss"] == pytest.approx(float(F.cross_entropy(logits, data.labels[:12]).detach()))
    assert rows[4]["error"] == pytest.approx(100 * float((logits.argmax(1) != data.labels[:12]).float().mean()))
    assert len({row["loss"] for row in rows}) == 9


def test_directions_have_the_norm_of_each_filter_and_leave_vectors_alone() -> None:
    net = trained(resnet_cifar(8, "B", width=4))
    generator = torch.Generator().manual_seed(0)
    one, other = direction(net, generator), direction(net, generator)
    for parameter, d, e in zip(net.parameters(), one, other, strict=True):
        if parameter.dim() == 1:
            assert not d.any()
            assert not e.any()
        else:
            norms = parameter.detach().flatten(1).norm(dim=1)
            assert torch.allclose(d.flatten(1).norm(dim=1), norms)
            assert torch.allclose(e.flatten(1).norm(dim=1), norms)
            assert not torch.equal(d, e)


def test_a_net_of_one_weight_per_class_has_the_loss_of_its_formula() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 10, bias=False))
    data = random_pictures(channels=1)
    # a row of one weight w has the directions w and -w
    one, other = ([float(d[0].sign()) for d in found] for found in two_directions(net))
    weights = net[2].weight.detach().flatten()
    signs = weights.sign().tolist()
    means = data.images.mean((1, 2, 3))
    for row in landscape(net, data, points=5):  # type: ignore[arg-type]
        size = [
            float(w.abs()) * (s + row["x"] * d + row["y"] * e)
            for w, s, d, e in zip(weights, signs, one, other, strict=True)
        ]
        losses = [
            math.log(sum(math.exp(w * m) for w in size)) - size[label] * m
            for m, label in zip(means.tolist(), data.labels.tolist(), strict=True)
        ]
        assert row["loss"] == pytest.approx(sum(losses) / 20, abs=1e-5)


def two_directions(net: nn.Module) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [direction(net, generator)[0] for _ in range(2)]


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="points must be an integer >= 2, got 1"):
        landscape(resnet_cifar(8, "A"), random_pictures(), points=1)  # type: ignore[arg-type]
