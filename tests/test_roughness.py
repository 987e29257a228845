"""Sections of the loss against heights known by hand, and a net whose loss along a line has a formula."""

import math

import pytest
import torch
from samples import random_pictures, trained
from torch import nn
from torch.nn import functional as F

from resnet_lab.analyses import landscape, roughness
from resnet_lab.analyses.landscape import direction
from resnet_lab.analyses.roughness import climb, detour, not_convex
from resnet_lab.checks import UserError
from resnet_lab.models import resnet_cifar


def test_sections_known_by_hand() -> None:
    assert (not_convex([5, 2, 1, 2, 5]), detour([5, 2, 1, 2, 5])) == (0, 0)
    assert not_convex([0, 1, 0, 1, 0]) == pytest.approx(200 / 3)
    # a bend near the weights, where the loss is low, counts whatever the loss does far away
    assert not_convex([1e6, 1, 0.9, 1, 0.9, 1e6]) == pytest.approx(100 / 4)
    assert detour([1e4, 1e3, 1, 10, 1, 1e3, 1e4]) == pytest.approx(25)  # 10 powers up and down where 8 would do
    assert detour([1, 1, 1]) == 0
    assert not_convex([1, 1, 1]) == 0
    assert climb([100, 0, 1]) == pytest.approx(1)


def test_a_linear_classifier_is_convex_along_every_line() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    ((row),) = roughness(net, random_pictures(), sections=5)  # type: ignore[arg-type]
    assert (row["sections"], row["not_convex"], row["detour"]) == (5, 0, pytest.approx(0, abs=1e-6))


def test_the_first_section_is_an_axis_of_the_landscape() -> None:
    net, data = trained(resnet_cifar(8, "B", width=4)), random_pictures()
    ((row),) = roughness(net, data, sections=1, points=5)  # type: ignore[arg-type]
    plane = landscape(net, data, points=5)  # type: ignore[arg-type]
    losses = [point["loss"] for point in plane if point["y"] == 0]
    assert row["climb"] == pytest.approx((math.log10(losses[0]) + math.log10(losses[-1])) / 2)
    assert row["not_convex"] == not_convex(losses)


def test_weights_as_far_apart_as_the_filters_are_long() -> None:
    net, data = nn.Sequential(nn.Flatten(), nn.Linear(192, 10, bias=False)), random_pictures()
    (step,) = direction(net, torch.Generator().manual_seed(0))
    ends = [
        float(F.cross_entropy(data.images.flatten(1) @ (net[1].weight.detach() + sign * step).T, data.labels))
        for sign in (-1, 1)
    ]
    ((row),) = roughness(net, data, sections=1, points=3)  # type: ignore[arg-type]
    assert row["climb"] == pytest.approx(sum(map(math.log10, ends)) / 2, rel=1e-5)


def test_what_it_refuses() -> None:
    for settings, said in (({"points": 2}, "points must be an integer >= 3"), ({"sections": 0}, "sections")):
        with pytest.raises(ValueError, match=said):
            roughness(resnet_cifar(8, "A"), random_pictures(), **settings)  # type: ignore[arg-type]
    diverged = resnet_cifar(8, "A")
    nn.init.constant_(next(reversed(list(diverged.parameters()))), math.inf)
    with pytest.raises(UserError, match="not finite; the net has diverged"):
        roughness(diverged, random_pictures(), sections=1, points=3)  # type: ignore[arg-type]
