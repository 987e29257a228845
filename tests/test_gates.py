"""The gates of highway nets against gates set by hand."""

from collections import OrderedDict

import pytest
import torch
from samples import random_pictures
from torch import Tensor, nn

from resnet_lab.analyses import gates
from resnet_lab.checks import UserError
from resnet_lab.models import highway, resnet_cifar
from resnet_lab.models.highway import HighwayLayer

PICTURES = random_pictures(40)


def with_gates(logits: Tensor) -> nn.Sequential:
    """Three highway layers, one a stage, whose gates are the sigmoid of these numbers, channel by channel."""
    net = highway(7, width=4)
    for layer in net.modules():
        if isinstance(layer, HighwayLayer):
            assert layer.gate.bias is not None
            with torch.no_grad():
                layer.gate.weight.zero_()
                layer.gate.bias.copy_(logits.repeat(len(layer.gate.bias) // len(logits)))
    return net


def error_by_hand(net: nn.Sequential, name: str, instead: nn.Module) -> float:
    """The error with a module in place of the highway layer of this name."""
    stage, place = name.split(".")
    layers = OrderedDict(net.named_children())
    inside = OrderedDict(net.get_submodule(stage).named_children()) | {place: instead}
    changed = nn.Sequential(layers | {stage: nn.Sequential(OrderedDict(inside))})
    wrong: Tensor = changed(PICTURES.images).argmax(1) != PICTURES.labels
    return 100 * float(wrong.double().mean())


@pytest.mark.parametrize(
    ("logits", "openness", "shut", "opened"),
    [([-30.0], 0, 1, 0), ([30.0], 1, 0, 1), ([0.0], 0.5, 0, 0), ([-30.0, 30.0, 30.0, 0.0], 0.625, 0.25, 0.5)],
)
def test_openness_is_that_of_gates_set_by_hand(
    logits: list[float], openness: float, shut: float, opened: float
) -> None:
    rows = gates(with_gates(torch.tensor(logits)), PICTURES)  # type: ignore[arg-type]
    assert [(row["block"], row["name"]) for row in rows] == [(1, "stage1.2"), (2, "stage2.2"), (3, "stage3.2")]
    for row in rows:
        assert (row["openness"], row["shut"], row["open"]) == pytest.approx((openness, shut, opened))


def test_forced_gates_leave_x_or_h_alone() -> None:
    net = highway(7, width=4)
    for row in gates(net, PICTURES):  # type: ignore[arg-type]
        layer = net.get_submodule(row["name"])
        assert isinstance(layer, HighwayLayer)
        plain = nn.Sequential(layer.transform, nn.ReLU())
        assert row["error"] == pytest.approx(error_by_hand(net, row["name"], layer))
        assert row["error_shut"] == pytest.approx(error_by_hand(net, row["name"], nn.Identity()))
        assert row["error_open"] == pytest.approx(error_by_hand(net, row["name"], plain))


@pytest.mark.parametrize(("logit", "same"), [(-30.0, "error_shut"), (30.0, "error_open")])
def test_forcing_changes_nothing_where_the_gates_are_there_already(logit: float, same: str) -> None:
    for row in gates(with_gates(torch.tensor([logit])), PICTURES):  # type: ignore[arg-type]
        assert row[same] == row["error"]


def test_a_net_without_gates_is_refused() -> None:
    with pytest.raises(UserError, match="Sequential has no gates; take highway"):
        gates(resnet_cifar(8, "A"), PICTURES)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="images must be a positive integer, got 0"):
        gates(highway(7), PICTURES, images=0)  # type: ignore[arg-type]
