import copy
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch.nn import functional as F

from resnet_lab.checks import UserError
from resnet_lab.config.build import build
from resnet_lab.models import (
    alexnet,
    googlenet,
    highway,
    inception,
    inception_v4,
    preact_resnet_cifar,
    resnet_cifar,
    resnet_imagenet,
    vgg,
)
from resnet_lab.models.auxiliary import WithAuxiliary
from resnet_lab.models.count import count_multiply_adds
from resnet_lab.models.shortcuts import shortcut_connection

CONF = Path(__file__).parent.parent / "conf"

# convolutions without bias, batch normalization with scale and shift, a projection is a convolution and a
# normalization; 3 channels in, 10 classes out
PARAMETERS = {
    "none": {20: 269722, 32: 464154, 44: 658586, 56: 853018, 110: 1727962, 1202: 19421274},
    "A": {20: 269722, 32: 464154, 44: 658586, 56: 853018, 110: 1727962, 1202: 19421274},
    "B": {20: 272474, 32: 466906, 44: 661338, 56: 855770, 110: 1730714},
    "C": {20: 283962, 32: 489594, 44: 695226, 56: 900858, 110: 1826202, 1202: 20538714},
}


@pytest.mark.parametrize(
    ("shortcut", "depth", "parameters"),
    [(shortcut, depth, n) for shortcut, counts in PARAMETERS.items() for depth, n in counts.items()],
)
def test_parameter_counts(shortcut: str, depth: int, parameters: int) -> None:
    with torch.device("meta"):
        net = resnet_cifar(depth, shortcut)
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
@pytest.mark.parametrize("size", [8, 28, 32])
def test_logits_of_any_image_size(shortcut: str, size: int) -> None:
    net = resnet_cifar(8, shortcut, in_channels=1, num_classes=7, width=4)
    assert net(torch.randn(2, 1, size, size)).shape == (2, 7)


@pytest.mark.parametrize(("channels", "pixels"), [(2, 9), (4, 16), (12, 8)])
def test_gradients_of_a_strided_projection_of_few_channels(channels: int, pixels: int) -> None:
    """Held against float64 in the other memory layout; with a stride in the convolution oneDNN got these wrong."""
    torch.manual_seed(0)
    exact = shortcut_connection("B", channels, 2 * channels, stride=2)
    assert exact is not None
    here = copy.deepcopy(exact).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    exact.double()
    for _ in range(20):
        images = torch.randn(8, channels, pixels, pixels)
        outputs = (here(images.contiguous(memory_format=torch.channels_last)), exact(images.double()))
        direction = torch.randn_like(outputs[0])
        for net, output in zip((here, exact), outputs, strict=True):
            net.zero_grad()
            (output * direction).sum().backward()
        for found, expected in zip(here.parameters(), exact.parameters(), strict=True):
            assert found.grad is not None
            torch.testing.assert_close(found.grad.double(), expected.grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shortcut", ["none", "A"])
def test_against_the_equations(shortcut: str) -> None:
    """The whole net once more, in functional form, on the same weights."""
    torch.manual_seed(0)
    net = resnet_cifar(20, shortcut).eval()
    w = {k: v + 0.1 * torch.rand_like(v) if v.is_floating_point() else v for k, v in net.state_dict().items()}
    net.load_state_dict(w)

    def normalized(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, w[f"{name}.weight"], w[f"{name}.bias"])

    images = torch.randn(3, 3, 32, 32)
    x = F.relu(normalized(F.conv2d(images, w["stem.0.weight"], padding=1), "stem.1"))
    for stage in (1, 2, 3):
        for block in range(3):
            name, stride = f"stage{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = F.relu(normalized(F.conv2d(x, w[f"{name}.conv1.weight"], stride=stride, padding=1), f"{name}.bn1"))
            y = normalized(F.conv2d(y, w[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if shortcut == "A":
                kept = x[:, :, ::stride, ::stride]
                y[:, : kept.shape[1]] += kept
            x = F.relu(y)
    expected = x.mean((2, 3)) @ w["head.2.weight"].T + w["head.2.bias"]
    torch.testing.assert_close(net(images), expected, rtol=1e-5, atol=1e-5)


def test_option_a_appends_zero_channels() -> None:
    x = torch.arange(2 * 4 * 4.0).reshape(1, 2, 4, 4)
    out = shortcut_connection("A", 2, 4, stride=2)(x)
    assert torch.equal(out[:, :2], x[:, :, ::2, ::2])
    assert torch.equal(out[:, 2:], torch.zeros(1, 2, 2, 2))


@pytest.mark.parametrize(("option", "projections"), [("A", 0), ("B", 2), ("C", 9)])
def test_where_the_options_project(option: str, projections: int) -> None:
    net = resnet_cifar(20, option)
    ones = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(ones) == projections


def test_he_initialization() -> None:
    torch.manual_seed(0)
    weight = resnet_cifar(20, "none").stage3[1].conv1.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert weight.mean().item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 18}, "depth must be 6n+2 .*20, 32, 44, 56, 110, 1202.*got 18"),
        ({"depth": 2}, "depth must be 6n+2 .*got 2"),
        ({"depth": -4}, "depth must be a positive integer, got -4"),
        ({"depth": "20"}, "depth must be a positive integer, got '20'"),
        ({"shortcut": "D"}, "shortcut must be one of none, A, B, C; got 'D'"),
        ({"shortcut": None}, "shortcut must be one of none, A, B, C; got None"),
        ({"width": 0}, "width must be a positive integer, got 0"),
        ({"in_channels": 1.5}, "in_channels must be a positive integer, got 1.5"),
        ({"num_classes": True}, "num_classes must be a positive integer, got True"),
    ],
)
def test_errors_name_the_value_and_what_is_allowed(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("6n+2", re.escape("6n+2"))):
        resnet_cifar(**{"depth": 20, "shortcut": "A"} | arguments)


@pytest.mark.parametrize("family", ["cifar", "imagenet"])
def test_plain_and_residual_configs_differ_by_one_line(family: str) -> None:
    plain, residual = (
        (CONF / f"model/{family}_{kind}.yaml").read_text().splitlines() for kind in ("plain", "resnet")
    )
    assert len(plain) == len(residual)
    (difference,) = [pair for pair in zip(plain, residual, strict=True) if pair[0] != pair[1]]
    (before, comment), (after, same_comment) = (line.split(" # ") for line in difference)
    assert (before, after) == ("shortcut: none", f"shortcut: {'A' if family == 'cifar' else 'B'}")
    assert comment == same_comment


def config(name: str) -> dict:
    """conf/model/<name>.yaml with what it takes from another."""
    read = OmegaConf.to_container(OmegaConf.load(CONF / f"model/{name}.yaml"))
    bases = [base for base in read.pop("defaults", []) if base != "_self_"]
    return {**(config(bases[0]) if bases else {}), **read}


MODELS = sorted(path.stem for path in CONF.glob("model/*.yaml"))
SMALL = [name for name in MODELS if config(name).get("stem", "cifar") == "cifar"]


# a minute of drawing weights
HUGE = {"cifar_inception_v4", "cifar_inception_resnet_v2", "cifar_googlenet", "cifar_resnet18", "cifar_vgg11"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in HUGE else n for n in SMALL])
def test_every_net_for_small_images_has_gradients_everywhere(name: str) -> None:
    torch.manual_seed(0)
    net = build("model", config(name), in_channels=1, num_classes=7)
    output = net(torch.randn(2, 1, 28, 28))
    logits = [output.logits, *output.auxiliary] if isinstance(output, WithAuxiliary) else [output]
    assert [tuple(tensor.shape) for tensor in logits] == [(2, 7)] * len(logits)
    sum(F.cross_entropy(tensor, torch.tensor([0, 1])) for tensor in logits).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    with torch.no_grad():
        assert net.eval()(torch.randn(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", sorted(set(MODELS) - set(SMALL)))
def test_every_net_for_large_images(name: str) -> None:
    with torch.device("meta"):
        net = build("model", config(name), in_channels=3, num_classes=1000).eval()
        size = 299 if name.startswith("inception") else 224
        assert net(torch.randn(2, 3, size, size)).shape == (2, 1000)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
def test_imagenet_nets_have_the_layers_of_table_1(depth: int, shortcut: str) -> None:
    with torch.device("meta"):
        net = resnet_imagenet(depth, shortcut)
        features = net[:-1](torch.randn(1, 3, 224, 224))
        assert features.shape == (1, 512 if depth < 50 else 2048, 7, 7)
    weighted = [n for n, m in net.named_modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len([name for name in weighted if ".shortcut." not in name]) == depth
    blocks = sum(len(stage) for stage in (net.stage1, net.stage2, net.stage3, net.stage4))
    changes = 3 if depth in (18, 34) else 4
    assert len(weighted) - depth == {"none": 0, "A": 0, "B": changes, "C": blocks}[shortcut]


@pytest.mark.parametrize(("stride_in", "strides"), [("1x1", (2, 1)), ("3x3", (1, 2))])
def test_where_a_bottleneck_strides(stride_in: str, strides: tuple[int, int]) -> None:
    block = resnet_imagenet(50, "B", stride_in=stride_in, width=4).stage2[0]
    assert (block.conv1.stride[0], block.conv2.stride[0]) == strides


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 20}, "depth must be one of 18, 34, 50, 101, 152, got 20"),
        ({"depth": "34"}, "depth must be a positive integer, got '34'"),
        ({"shortcut": "D"}, "shortcut must be one of none, A, B, C; got 'D'"),
        ({"stride_in": "first"}, "stride_in must be one of 1x1, 3x3; got 'first'"),
        ({"stem": "small"}, "stem must be one of imagenet, cifar; got 'small'"),
        ({"num_classes": 0}, "num_classes must be a positive integer, got 0"),
    ],
)
def test_errors_of_the_imagenet_nets(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resnet_imagenet(**{"depth": 34, "shortcut": "B"} | arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: vgg(12), "depth must be one of 11, 13, 16, 19, got 12"),
        (lambda: vgg(11, batch_norm="yes"), "batch_norm must be true or false, got 'yes'"),
        (lambda: alexnet(stem="11x11"), "stem must be one of imagenet, cifar; got '11x11'"),
        (lambda: googlenet(auxiliary_weight=-1), "auxiliary_weight must be a number, 0 or more, got -1"),
        (lambda: highway(6), "depth must be 7 or more .*got 6"),
        (lambda: highway(19, transform_bias="low"), "transform_bias must be a number, got 'low'"),
        (lambda: inception("thin"), "module must be one of naive, bottleneck; got 'thin'"),
        (lambda: inception("naive", width=6), "width must be a multiple of 4, got 6"),
        (lambda: inception("naive", filters=[8, 8]), "filters must be a list of 3 numbers for module=naive, got"),
        (lambda: inception("bottleneck", filters=[8] * 5 + [0]), "filters must be a positive integer, got 0"),
        (lambda: preact_resnet_cifar(20, "none"), "shortcut must be one of A, B, C; got 'none'"),
    ],
)
def test_errors_of_the_other_nets(make: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def stage_with_its_residuals(make: Callable) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A stage's input, its output, and the sum of F over its blocks, in float64."""
    torch.manual_seed(0)
    stage = make(32, "A", in_channels=4, width=4).stage1.double().eval()
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64, requires_grad=True)
    residuals, out = [], x
    for block in stage:
        residuals.append(block.layers(out))
        out = block(out)
    return x, out, torch.stack(residuals).sum(0)


def test_pre_activation_blocks_add_up() -> None:
    """x_L = x_l + sum of F, and the gradient is that of x_L, once, plus what goes through the layers."""
    x, out, residual = stage_with_its_residuals(preact_resnet_cifar)
    torch.testing.assert_close(out, x + residual, rtol=1e-12, atol=1e-12)
    v = torch.randn_like(out)
    (whole,) = torch.autograd.grad(out, x, v, retain_graph=True)
    (through_layers,) = torch.autograd.grad(residual, x, v)
    torch.testing.assert_close(whole, v + through_layers, rtol=1e-10, atol=1e-12)
    # the paper's own blocks end with a ReLU, after which nothing adds up
    x, out, residual = stage_with_its_residuals(resnet_cifar)
    assert not torch.allclose(out, x + residual, rtol=1e-3)


def test_highway_gates_open_and_close() -> None:
    layer = highway(19, width=4).stage1[2]
    x = torch.randn(2, 4, 8, 8)
    assert (layer.gate.bias == -1).all()
    expected = torch.sigmoid(layer.gate(x)) * F.relu(layer.transform(x)) + (1 - torch.sigmoid(layer.gate(x))) * x
    torch.testing.assert_close(layer(x), expected)
    torch.nn.init.constant_(layer.gate.bias, -100.0)
    torch.testing.assert_close(layer(x), x)
    torch.nn.init.constant_(layer.gate.bias, 100.0)
    torch.testing.assert_close(layer(x), F.relu(layer.transform(x)))


@pytest.mark.parametrize("depth", [7, 19, 32])
def test_highway_depth_counts_convolutions_and_the_head(depth: int) -> None:
    layers = highway(depth, width=4).named_modules()
    names = [name for name, layer in layers if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    assert len([name for name in names if not name.endswith("gate")]) == depth


def test_the_filters_of_inception_modules_can_be_given() -> None:
    """28x28x256 through 128 1x1, 192 3x3 and 96 5x5 filters beside a pooling: 128 + 192 + 96 + 256 channels."""
    with torch.device("meta"):
        net = inception("naive", in_channels=1, width=64, modules=1, filters=[128, 192, 96])
        image = torch.empty(1, 1, 28, 28)
        assert net.stem(image).shape == (1, 256, 28, 28)
        assert net.stage1(net.stem(image)).shape == (1, 672, 28, 28)
        # GoogLeNet's "inception (3a)"
        net = inception("bottleneck", width=48, modules=1, filters=[64, 96, 128, 16, 32, 32])
        assert net.stage1(torch.empty(1, 192, 28, 28)).shape == (1, 256, 28, 28)


def test_naive_inception_widens_and_bottlenecks_do_not() -> None:
    """The pooling hands all its channels on, so that every naive module is wider than the one before."""
    images = torch.randn(2, 3, 16, 16)
    naive, thin = inception("naive", width=8, modules=3), inception("bottleneck", width=8, modules=3)
    widths = [naive.stage1[:n](naive.stem(images)).shape[1] for n in (1, 2, 3)]
    assert widths == [32 + 28 * n for n in (1, 2, 3)]
    assert {thin.stage1[:n](thin.stem(images)).shape[1] for n in (1, 2, 3)} == {32}
    assert count_multiply_adds(naive, (3, 32, 32)) > 3 * count_multiply_adds(thin, (3, 32, 32))


def test_a_missing_timm_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="inception_v4 needs timm: pip install timm"):
        inception_v4()
