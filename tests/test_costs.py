"""What blocks cost, see and get as gradient, against arithmetic."""

from typing import Any

import pytest
import torch
from samples import random_pictures
from torch import nn
from torch.nn import functional as F

from resnet_lab.analyses import auxiliary, costs, receptive_field
from resnet_lab.checks import UserError
from resnet_lab.models import alexnet, googlenet, inception, resnet_cifar, resnet_imagenet, stacked
from resnet_lab.models.auxiliary import WithAuxiliary

PICTURES: Any = random_pictures(8)
LARGE: Any = random_pictures(2, channels=3, side=28)


def test_the_first_naive_module_deepens_256_channels_to_672() -> None:
    """28x28x256, 128 filters of 1x1, 192 of 3x3 and 96 of 5x5: the example of CS231n."""
    net = inception("naive", width=64, modules=1, filters=[128, 192, 96])
    first = costs(net, LARGE)[0]
    assert (first["in_channels"], first["out_channels"]) == (256, 128 + 192 + 96 + 256)
    assert first["multiply_adds"] == 28 * 28 * 256 * (128 + 9 * 192 + 25 * 96) == 854_196_224


def test_the_same_module_with_bottlenecks() -> None:
    net = inception("bottleneck", width=64, modules=1, filters=[128, 64, 192, 64, 96, 64])
    first = costs(net, LARGE)[0]
    assert (first["in_channels"], first["out_channels"]) == (256, 128 + 192 + 96 + 64)
    assert first["multiply_adds"] == 28 * 28 * (256 * (128 + 64 + 64 + 64) + 64 * (9 * 192 + 25 * 96))


def test_a_projection_is_half_of_a_bottleneck() -> None:
    rows = {row["name"]: row for row in costs(resnet_imagenet(50, "C", stem="cifar"), PICTURES)}
    second = rows["stage1.1"]
    f = 256 * 64 + 64 * 64 * 9 + 64 * 256 + 2 * (64 + 64 + 256)
    projection = 256 * 256 + 2 * 256
    assert (second["parameters"], second["shortcut_parameters"]) == (f + projection, projection)
    assert second["shortcut_share"] == pytest.approx(100 * projection / (f + projection))
    last = list(rows.values())[-1]
    assert last["shortcut_share_so_far"] == pytest.approx(
        100
        * sum(row["shortcut_parameters"] for row in rows.values())
        / sum(r["parameters"] for r in rows.values())
    )
    with pytest.raises(UserError, match="AlexNet has no blocks"):
        costs(alexnet(stem="cifar"), PICTURES)


def test_three_layers_of_3x3_see_as_much_as_one_of_7x7_for_less() -> None:
    small, large = (receptive_field(stacked(kernel, width=6), PICTURES) for kernel in (3, 7))
    assert [row["field"] for row in small] == [1, 3, 5, 7]
    assert [row["field"] for row in large] == [1, 7]
    assert [rows[-1]["parameters_so_far"] - rows[0]["parameters"] for rows in (small, large)] == [
        27 * 6 * 6,
        49 * 6 * 6,
    ]


def test_receptive_fields_with_strides_by_the_formula() -> None:
    """It grows by (kernel - 1) times the product of the strides before."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, padding=1)
    )
    assert [row["field"] for row in receptive_field(net, PICTURES)] == [5, 7, 11]
    with pytest.raises(UserError, match="Sequential has no convolution"):
        receptive_field(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), PICTURES)
    with pytest.raises(ValueError, match="kernel_size must be one of 3, 7, got 5"):
        stacked(5)


class Heads(nn.Module):
    """A first layer of one weight, a main classifier that shrinks what it gets, an auxiliary one that does not."""

    def __init__(self, small: float, weight: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.small, self.weight = small, weight

    def forward(self, x: torch.Tensor) -> Any:
        features = self.conv(x).mean((2, 3))
        logits = self.small * features
        return WithAuxiliary(logits, (features,), self.weight) if self.training else logits


def test_auxiliary_gradients_add_to_the_main_one_by_hand() -> None:
    net, data = Heads(0.01, 0.3), random_pictures(8)
    data.labels %= 2
    (row,) = auxiliary(net, data)  # type: ignore[arg-type]
    features = net.conv(data.images).mean((2, 3))
    main = F.cross_entropy(0.01 * features, data.labels)
    other = F.cross_entropy(features, data.labels)
    (of_main,), (of_other,) = (
        torch.autograd.grad(loss, [net.conv.weight], retain_graph=True) for loss in (main, other)
    )
    assert row["main_gradient_norm"] == pytest.approx(float(of_main.norm()), rel=1e-5)
    assert row["gradient_norm"] == pytest.approx(float((of_main + 0.3 * of_other).norm()), rel=1e-5)
    assert row["times"] == pytest.approx(row["gradient_norm"] / row["main_gradient_norm"])
    assert net.training


def test_without_auxiliary_classifiers_there_is_one_gradient() -> None:
    for net in (resnet_cifar(8, "A", width=4), Heads(0.01, 0.0)):
        data = random_pictures(8)
        data.labels %= 2
        assert {row["times"] for row in auxiliary(net, data)} == {1.0}  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_googlenet_has_auxiliary_gradients_with_and_without_normalization(norm: str) -> None:
    net = googlenet(num_classes=10, stem="cifar", norm=norm)
    rows = auxiliary(net, PICTURES)
    assert not any(row["name"].startswith("aux") for row in rows)
    assert rows[0]["times"] != 1
    assert rows[-1]["times"] == 1  # behind both auxiliary classifiers
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == (norm == "batch")
    with pytest.raises(ValueError, match="norm must be one of batch, none"):
        googlenet(norm="layer")
