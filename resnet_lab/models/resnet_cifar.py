"""The CIFAR-10 networks of Section 4.2: 6n+2 layers, plain or residual."""

from collections import OrderedDict

from torch import nn

from resnet_lab.checks import check_choice, check_positive
from resnet_lab.models.blocks import basic_block, conv3x3
from resnet_lab.models.shortcuts import SHORTCUTS

PAPER_DEPTHS = (20, 32, 44, 56, 110, 1202)


def resnet_cifar(
    depth: int, shortcut: str, in_channels: int = 3, num_classes: int = 10, width: int = 16
) -> nn.Sequential:
    """A net of 6n+2 weighted layers for small images, from (N, in_channels, H, W) to (N, num_classes) logits.

    A 3x3 stem, three stages of n blocks with `width`, 2 `width` and 4 `width` channels, the last two
    halving the resolution, global average pooling and a linear head. The paper's width is 16.
    `shortcut` is `none` for the plain net, or the option A, B or C of Section 4.1; the paper's CIFAR
    nets use A. Weights are drawn by He initialization.

    Raises:
        ValueError: depth is not 6n+2, shortcut is unknown, or a size is not a positive integer.
    """
    check_depth(depth)
    check_choice("shortcut", shortcut, SHORTCUTS)
    check_positive(in_channels=in_channels, num_classes=num_classes, width=width)
    blocks = (depth - 2) // 6
    widths = (width, 2 * width, 4 * width)
    stem = nn.Sequential(conv3x3(in_channels, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
    channels = width
    for number, out_channels in enumerate(widths, start=1):
        stage = nn.Sequential()
        for block in range(blocks):
            stride = 2 if number > 1 and block == 0 else 1
            stage.append(basic_block(shortcut, channels, out_channels, stride))
            channels = out_channels
        layers[f"stage{number}"] = stage
    layers["head"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    net = nn.Sequential(layers)
    he_initialization(net)
    return net


def check_depth(depth: int) -> None:
    check_positive(depth=depth)
    if depth < 8 or (depth - 2) % 6:
        paper = ", ".join(map(str, PAPER_DEPTHS))
        raise ValueError(f"depth must be 6n+2 (8, 14, 20, ...; the paper's are {paper}), got {depth}")


def he_initialization(net: nn.Module) -> None:
    """Zero-mean normal weights of variance 2 / fan_in, zero biases (the paper's reference 13)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
