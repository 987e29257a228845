"""The autocorrelation of gradients against plain loops, and against series whose autocorrelation is known."""

import pytest
import torch
from samples import random_pictures, trained
from torch import nn

from resnet_lab.analyses import shattered
from resnet_lab.analyses.shattered import autocorrelation, half_length
from resnet_lab.checks import UserError
from resnet_lab.models import resnet_cifar


def numbers(count: int) -> torch.Tensor:
    return torch.randn(count, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_white_noise_is_like_itself_alone_and_brownian_motion_like_what_is_near() -> None:
    white = autocorrelation(numbers(4000))
    brown = autocorrelation(numbers(4000).cumsum(0))
    assert white[0] == brown[0] == pytest.approx(1)
    assert white[1:1000].abs().max() < 0.06  # its standard deviation is 1 / sqrt(4000)
    assert brown[20] > 0.9


def test_a_known_series() -> None:
    found = autocorrelation(torch.tensor([[1.0, 5.0], [-1.0, 5.0], [1.0, 5.0], [-1.0, 5.0]]))
    assert found.tolist() == pytest.approx([1, -3 / 4, 2 / 4, -1 / 4])


def test_where_a_correlation_falls_to_one_half() -> None:
    assert half_length([1, 0, 0]) == 0.5
    assert half_length([1, 0.75, 0.25, 0.6]) == 1.5
    assert half_length([1, 0.9, 0.8]) == 2


def test_the_gradient_of_a_linear_net_is_as_alike_at_any_lag() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))
    rows = shattered(net, random_pictures(), points=64)  # type: ignore[arg-type]
    assert rows == [{"lag": lag, "autocorrelation": 1.0, "length": 16.0} for lag in range(17)]


def test_a_gradient_that_grows_along_the_line_is_a_ramp() -> None:
    class Squared(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).square().sum(1, keepdim=True).repeat(1, 10)

    rows = shattered(Squared(), random_pictures(), points=8)  # type: ignore[arg-type]
    ramp = [t - 3.5 for t in range(8)]
    expected = [sum(ramp[t] * ramp[t + lag] for t in range(8 - lag)) / 42 for lag in range(3)]
    assert [row["autocorrelation"] for row in rows] == pytest.approx(expected)


def test_it_is_what_a_plain_loop_finds() -> None:
    net, points = trained(resnet_cifar(8, "A", width=4)), 12
    rows = shattered(net, random_pictures(), lines=1, points=points)  # type: ignore[arg-type]
    one, other = random_pictures(2).images.double()
    images = torch.stack([one + (other - one) * t / (points - 1) for t in range(points)]).requires_grad_(True)
    weights = torch.randn(10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    sum(w * logits.sum() for w, logits in zip(weights, net.double().train()(images).T, strict=True)).backward()
    assert images.grad is not None
    found = images.grad.flatten(1)
    mean = sum(found) / points
    variance = sum(float((g - mean) @ (g - mean)) for g in found)
    for row in rows:
        pairs = zip(found, found[row["lag"] :], strict=False)
        alike = sum(float((g - mean) @ (h - mean)) for g, h in pairs)
        assert row["autocorrelation"] == pytest.approx(alike / variance)  # the line is the same from both ends


def test_what_it_refuses() -> None:
    net, data = resnet_cifar(8, "A", width=4), random_pictures(5)
    with pytest.raises(UserError, match="lines must be at most half the images of train, which are 5; got 3"):
        shattered(net, data, lines=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="points must be an integer >= 4, got 3"):
        shattered(net, data, points=3)  # type: ignore[arg-type]
