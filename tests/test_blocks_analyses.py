"""Analyses of blocks against nets whose blocks are taken out by hand, and against Equations 4 and 5."""

from collections.abc import Sequence

import pytest
import torch
from samples import random_pictures, trained
from torch import Tensor, nn

from resnet_lab.analyses import addition_grows, gradient_identity, lesion, lesions
from resnet_lab.analyses.inside_blocks import take_out
from resnet_lab.checks import UserError
from resnet_lab.models import preact_resnet_cifar, resnet_cifar, vgg
from resnet_lab.models.blocks import BasicBlock
from resnet_lab.models.resnet_cifar import PreActivationBlock

PICTURES = random_pictures(40)


def without_f(net: nn.Module) -> nn.Module:
    """The net with F(x) = 0 in all blocks."""
    for module in net.modules():
        if isinstance(module, BasicBlock):
            nn.init.zeros_(module.bn2.weight)
            nn.init.zeros_(module.bn2.bias)
    return net


def error_by_hand(net: nn.Sequential, out: Sequence[int]) -> float:
    """The error where the blocks of these numbers give relu(shortcut(x)), or x in a plain net."""
    net.eval()
    x, number = net[0](PICTURES.images), 0
    for stage in list(net)[1:4]:
        for block in stage:
            number += 1
            identity = nn.Identity() if block.shortcut is None else block.shortcut
            x = torch.relu(identity(x)) if number in out else block(x)
    wrong: Tensor = net[-1](x).argmax(1) != PICTURES.labels
    return 100 * float(wrong.double().mean())


@pytest.mark.parametrize(("shortcut", "numbers"), [("A", [1, 2, 3, 4, 5, 6]), ("none", [1, 2, 4, 6])])
def test_a_lesion_is_the_net_without_that_block(shortcut: str, numbers: list[int]) -> None:
    net = trained(resnet_cifar(14, shortcut))
    rows = lesion(net, PICTURES)  # type: ignore[arg-type]
    assert [row["block"] for row in rows] == numbers
    assert isinstance(net, nn.Sequential)
    with torch.no_grad():
        whole = error_by_hand(net, [])
        for row in rows:
            assert row["error"] == pytest.approx(error_by_hand(net, [row["block"]]))
            assert row["increase"] == pytest.approx(row["error"] - whole)


def test_what_a_plain_block_leaves_is_the_identity() -> None:
    net = resnet_cifar(8, "none", activation="tanh")
    block = net.get_submodule("stage1.0")
    assert isinstance(block, BasicBlock)
    take_out(block)
    x = torch.randn(2, 16, 4, 4)
    assert torch.equal(block(x), x)


def test_lesions_end_with_all_blocks_taken_out() -> None:
    net = trained(resnet_cifar(14, "A"))
    rows = lesions(net, PICTURES, most=9, draws=2)  # type: ignore[arg-type]
    assert isinstance(net, nn.Sequential)
    assert [row["blocks"] for row in rows] == list(range(7))
    with torch.no_grad():
        assert rows[0]["error"] == pytest.approx(error_by_hand(net, []))
        assert rows[-1]["error"] == pytest.approx(error_by_hand(net, range(1, 7)))


def test_a_block_that_adds_nothing_is_not_missed() -> None:
    rows = lesion(without_f(resnet_cifar(20, "A")), PICTURES)  # type: ignore[arg-type]
    assert {row["increase"] for row in rows} == {0.0}


def test_nets_without_such_blocks_are_refused() -> None:
    with pytest.raises(UserError, match="take cifar_plain or cifar_resnet"):
        lesion(vgg(11, batch_norm=True, stem="cifar"), PICTURES)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="draws"):
        lesions(resnet_cifar(8, "A"), PICTURES, draws=0)  # type: ignore[arg-type]


def test_variances_add_up_where_nothing_is_added() -> None:
    rows = addition_grows(without_f(resnet_cifar(20, "A")), PICTURES)  # type: ignore[arg-type]
    assert [row["f_std"] for row in rows] == [0.0] * 9
    for row in rows:
        # option A halves the resolution by leaving pixels out, so only stages keep what comes in
        if row["block"] not in (4, 7):
            assert [row["sum_std"], row["predicted_std"]] == pytest.approx([row["input_std"]] * 2)
            assert row["output_std"] == pytest.approx(row["input_std"])  # it was rectified before


def test_a_plain_block_passes_on_what_it_computes() -> None:
    for row in addition_grows(resnet_cifar(20, "none"), PICTURES):  # type: ignore[arg-type]
        # batch normalization gives unit variance to each channel
        assert [row[key] for key in ("f_std", "sum_std", "predicted_std")] == pytest.approx([1, 1, 1], abs=1e-3)


def test_both_equations_hold_exactly_before_activation_and_not_after() -> None:
    before = gradient_identity(trained(preact_resnet_cifar(20, "A")), PICTURES)  # type: ignore[arg-type]
    after = gradient_identity(trained(resnet_cifar(20, "A")), PICTURES)  # type: ignore[arg-type]
    assert [row["block"] for row in before] == [row["block"] for row in after] == [1, 2, 3, 5, 6, 8, 9]
    for row in before:
        assert max(row["signal_gap"], row["gradient_gap"]) < 1e-12
    assert min(row["signal_gap"] for row in after) > 1e-3
    assert min(row["gradient_gap"] for row in after) > 1e-3


def test_a_gradient_passes_unchanged_where_f_is_zero_and_nothing_is_rectified() -> None:
    net = preact_resnet_cifar(20, "A")
    for module in net.modules():
        if isinstance(module, PreActivationBlock):
            nn.init.zeros_(module.conv2.weight)
    for row in gradient_identity(net, PICTURES):  # type: ignore[arg-type]
        assert (row["signal_gap"], row["direct"]) == (0.0, pytest.approx(1))


def test_the_net_is_left_as_it_was() -> None:
    net = trained(resnet_cifar(14, "A"))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for analysis in (lesion, lesions, addition_grows, gradient_identity):
        analysis(net, PICTURES)  # type: ignore[operator]
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
