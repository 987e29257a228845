"""The ImageNet networks of Table 1, plain or residual."""

from collections import OrderedDict
from functools import partial

from torch import nn

from resnet_lab.checks import check_choice, check_positive
from resnet_lab.families import BASIC, IMAGENET, SHORTCUTS, STRIDE_IN, check_imagenet
from resnet_lab.models.blocks import BasicBlock, Bottleneck, MakeBlock, head, stage
from resnet_lab.models.initialization import he_initialization
from resnet_lab.models.stems import check_stem, resnet_stem


def resnet_imagenet(
    depth: int,
    shortcut: str,
    in_channels: int = 3,
    num_classes: int = 1000,
    stride_in: str = "1x1",
    stem: str = "imagenet",
    width: int = 64,
) -> nn.Sequential:
    """A net of Table 1, from (N, in_channels, H, W) to (N, num_classes) logits; the paper's images are 224x224.

    A stem and four stages, conv2_x to conv5_x, of basic blocks (18 and 34 layers) or bottlenecks (50, 101 and
    152), the last three halving the resolution; global average pooling and a linear head. `shortcut` is `none`
    for the plain net, or the option A, B or C of Section 4.1. `stride_in` is the convolution of a bottleneck
    that strides, `1x1` in the paper and `3x3` in torchvision. `stem` is `imagenet`, or `cifar` for images of
    about 32 pixels. The paper's width is 64. Weights are drawn by He initialization.

    Raises:
        ValueError: depth is not one of the paper's, a choice is unknown, or a size is not a positive integer.
    """
    check_imagenet(depth)
    check_choice("shortcut", shortcut, SHORTCUTS)
    check_choice("stride_in", stride_in, STRIDE_IN)
    check_stem(stem)
    check_positive(in_channels=in_channels, num_classes=num_classes, width=width)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=resnet_stem(stem, in_channels, width))
    channels, out_channels = width, width if depth in BASIC else 4 * width
    for number, blocks in enumerate(IMAGENET[depth], start=1):
        layers[f"stage{number}"] = stage(
            block_maker(depth, shortcut, stride_in), channels, out_channels, blocks, stride=1 if number == 1 else 2
        )
        channels, out_channels = out_channels, 2 * out_channels
    layers["head"] = head(channels, num_classes)
    net = nn.Sequential(layers)
    he_initialization(net)
    return net


def block_maker(depth: int, shortcut: str, stride_in: str) -> MakeBlock:
    if depth in BASIC:
        return partial(BasicBlock, shortcut=shortcut)
    return partial(Bottleneck, shortcut=shortcut, stride_in=stride_in)
