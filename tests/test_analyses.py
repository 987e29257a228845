"""Analyses against cases whose answer is known: nets made by hand, and plain loops written here."""

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from samples import Pictures, random_pictures, trained
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab import analyses
from resnet_lab.analyses import costs, receptive_field, responses, signals
from resnet_lab.analyses.measured import Moments
from resnet_lab.checks import UserError
from resnet_lab.config.build import parameters
from resnet_lab.models import alexnet, googlenet, highway, preact_resnet_cifar, resnet_cifar, resnet_imagenet


def times(factor: float, kernel: int = 3) -> nn.Conv2d:
    """A layer of one channel that multiplies by a number."""
    layer = nn.Conv2d(1, 1, kernel, padding=kernel // 2, bias=False)
    with torch.no_grad():
        layer.weight.zero_()[0, 0, kernel // 2, kernel // 2] = factor
    return layer


def normalization(variance: float, scale: float) -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(1, eps=0.0)
    with torch.no_grad():
        layer.weight.fill_(scale)
        layer.running_var.fill_(variance)  # type: ignore[union-attr]
    return layer


def test_the_response_of_a_layer_is_that_before_the_relu_that_works_in_place() -> None:
    net = nn.Sequential(
        times(3.0),
        normalization(4.0, 5.0),
        nn.ReLU(inplace=True),
        times(2.0, kernel=1),
        times(-1.0),
        nn.ReLU(True),
    )
    signs = torch.tensor([1.0, -1.0]).repeat(32)
    rows = responses(net, Pictures(signs.reshape(1, 1, 8, 8).repeat(5, 1, 1, 1), size=2))
    # 3 * 5 / sqrt(4) = 7.5; the ReLU lets half of it through, the 1x1 layer doubles that: 15 or 0, spread by 7.5
    assert [(row["layer"], row["name"], row["rank"]) for row in rows] == [(1, "0", 1), (2, "4", 2)]
    assert [row["std"] for row in rows] == pytest.approx([7.5, 7.5])
    assert [row["mean"] for row in rows] == pytest.approx([0.0, -7.5])


def captured(net: nn.Module, images: Tensor, names: list[str]) -> dict[str, Tensor]:
    """All outputs of the modules of these names, each copied as soon as it is there."""
    seen: dict[str, list[Tensor]] = {name: [] for name in names}
    for name in names:
        net.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen[name].append(out.clone()))
    with torch.no_grad():
        net.eval()(images)
    return {name: torch.cat(found) for name, found in seen.items()}


@pytest.mark.parametrize("shortcut", ["none", "A", "B"])
def test_responses_are_what_a_plain_loop_finds(shortcut: str) -> None:
    net, data = trained(resnet_cifar(8, shortcut, width=4)), random_pictures()
    rows = responses(net, data, images=17)
    names = ["stem.1", *(f"stage{s}.0.bn{b}" for s in (1, 2, 3) for b in (1, 2))]
    found = captured(net, data.images[:17], names)
    assert [row["std"] for row in rows] == pytest.approx(
        [float(found[name].double().std(correction=0)) for name in names], rel=1e-5
    )
    assert [row["name"] for row in rows][:3] == ["stem.0", "stage1.0.conv1", "stage1.0.conv2"]
    assert sorted(rows, key=lambda row: row["rank"]) == sorted(rows, key=lambda row: -row["std"])


def test_bottlenecks_have_one_3x3_layer_and_pre_activation_no_normalization_after_the_second() -> None:
    rows = responses(resnet_imagenet(50, "B", num_classes=10), random_pictures(2, side=32))
    assert {row["name"].rpartition(".")[2] for row in rows} == {"conv2"}
    net, data = trained(preact_resnet_cifar(8, "A", width=4)), random_pictures()
    std = {row["name"]: row["std"] for row in responses(net, data)}
    found = captured(net, data.images, ["stage1.0.bn2", "stage1.0.conv2"])
    expected = [float(tensor.double().std(correction=0)) for tensor in found.values()]
    assert [std["stage1.0.conv1"], std["stage1.0.conv2"]] == pytest.approx(expected, rel=1e-5)


def test_signals_of_a_chain_of_factors_grow_by_each() -> None:
    net = nn.Sequential(times(2.0), times(5.0), times(0.5), nn.Flatten(), nn.Linear(64, 10))
    first, second, third = signals(net, random_pictures(channels=1), batch_size=20)
    assert second["output_std"] / first["output_std"] == pytest.approx(5)
    assert third["output_std"] / second["output_std"] == pytest.approx(0.5)
    assert first["gradient_norm"] / second["gradient_norm"] == pytest.approx(5)
    assert second["gradient_norm"] / third["gradient_norm"] == pytest.approx(0.5)
    assert [row["weight_norm"] for row in (first, second, third)] == pytest.approx([2, 5, 0.5])
    assert first["relative_gradient"] == pytest.approx(first["weight_gradient_norm"] / 2)


def test_the_gradient_norm_is_that_of_finite_differences() -> None:
    net = nn.Sequential(times(2.0), nn.Flatten(), nn.Linear(16, 10)).double()
    data = Pictures(torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    (row,) = signals(net, data)
    output, step, slopes = net[0](data.images).detach(), 1e-5, []
    for place in range(output.numel()):
        losses = []
        for sign in (1, -1):
            moved = output.flatten().clone()
            moved[place] += sign * step
            losses.append(F.cross_entropy(net[1:](moved.reshape(output.shape)), data.labels).item())
        slopes.append((losses[0] - losses[1]) / (2 * step))
    assert row["gradient_norm"] == pytest.approx(math.hypot(*slopes), rel=1e-6)


def test_signals_are_those_of_a_net_in_training() -> None:
    net, data = trained(resnet_cifar(8, "B", width=4)), random_pictures(16)
    rows = signals(net, data, batch_size=8)
    squares: dict[str, list[float]] = {row["name"]: [] for row in rows}
    for images, labels in data.batches("train", 8):
        net.train().zero_grad()
        F.cross_entropy(net(images), labels).backward()
        for name, found in squares.items():
            found.append(float(net.get_submodule(name).weight.grad.norm()) ** 2)  # type: ignore[union-attr]
    assert [row["weight_gradient_norm"] for row in rows] == pytest.approx(
        [math.sqrt(sum(found) / 2) for found in squares.values()], rel=1e-4
    )
    assert not any("shortcut" in row["name"] for row in rows)


def test_inputs_behind_dead_relus_are_counted() -> None:
    split = nn.Conv2d(1, 4, 1)
    with torch.no_grad():
        split.bias.copy_(torch.tensor([-100.0, -100.0, -100.0, 100.0]))  # type: ignore[union-attr]
    net = nn.Sequential(split, nn.ReLU(inplace=True), nn.Conv2d(4, 1, 1), nn.Flatten(), nn.Linear(64, 10))
    assert [row["dead_inputs"] for row in signals(net, random_pictures(channels=1))] == [0.0, 0.75]


BRIEFLY: dict[str, dict[str, Any]] = {
    "constructed": {"depth": 14, "iterations": 2, "every": 1},
    "easier": {"iterations": 2, "every": 1},
    "ensemble": {"depths": (8, 14), "iterations": 2},
    "interpolation": {"initial": resnet_cifar(8, "A", width=4)},
}


@pytest.mark.parametrize("name", analyses.__all__)
def test_an_analysis_leaves_everything_as_it_was(name: str) -> None:
    net = trained(highway(7, width=4) if name == "gates" else resnet_cifar(8, "A", width=4)).train()
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    analysis: Callable[..., Any] = functools.partial(getattr(analyses, name), **BRIEFLY.get(name, {}))
    state = torch.get_rng_state()
    rows = list(analysis(net=net, data=random_pictures()))
    assert rows == list(analysis(net=net, data=random_pictures()))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())
    analysis = getattr(analyses, name)
    assert {"net", "data"} <= parameters(analysis)


def test_responses_of_layers_that_go_on_to_a_relu_are_from_before_it() -> None:
    timm = pytest.importorskip("timm.layers")
    torch.manual_seed(0)
    pairs = []
    for norm, after in ((timm.BatchNormAct2d(8), nn.Identity()), (nn.BatchNorm2d(8), nn.ReLU())):
        layers = nn.Conv2d(3, 8, 3), norm, after, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
        pairs.append(nn.Sequential(*layers))
    pairs[1].load_state_dict(pairs[0].state_dict())
    fused, apart = (responses(net, random_pictures()) for net in pairs)
    assert fused == apart


def test_a_small_field_is_asked_to_be_larger() -> None:
    with pytest.raises(UserError, match=r"AlexNet does not take 33x33 pixels; set analysis.size=65 or more"):
        receptive_field(alexnet(), random_pictures())


def test_what_does_not_run_costs_nothing() -> None:
    names = [row["name"] for row in costs(googlenet(stem="cifar", num_classes=10), random_pictures(side=32))]
    assert names
    assert not [name for name in names if "aux" in name]


def test_a_net_without_such_layers_is_named() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    with pytest.raises(UserError, match="Sequential has no 3x3 layer, whose response could be taken"):
        responses(net, random_pictures())
    with pytest.raises(UserError, match="Sequential has no convolution; choose another net"):
        signals(net, random_pictures())
    with pytest.raises(ValueError, match="images must be a positive integer, got 0"):
        responses(net, random_pictures(), images=0)


def test_moments_over_batches_lose_no_digits_to_a_large_mean() -> None:
    values = 1e4 + torch.randn(1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moments = Moments()
    for part in values.split(37):
        moments = moments.plus(part)
    assert moments.std == pytest.approx(float(values.std(correction=0)), rel=1e-9)
