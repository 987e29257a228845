import math
import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from resnet_lab.models import resnet_cifar
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


def test_plain_and_residual_configs_differ_by_one_line() -> None:
    plain, residual = (
        (CONF / f"model/cifar_{kind}.yaml").read_text().splitlines() for kind in ("plain", "resnet")
    )
    assert len(plain) == len(residual)
    assert [pair for pair in zip(plain, residual, strict=True) if pair[0] != pair[1]] == [
        ("shortcut: none", "shortcut: A")
    ]
