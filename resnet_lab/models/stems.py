"""Stems: ImageNet's reduces a 224x224 image fourfold, CIFAR's keeps the resolution."""

from torch import nn

from resnet_lab.checks import check_choice
from resnet_lab.models.blocks import conv3x3
from resnet_lab.models.layer import BN_RELU, Layer

STEMS = ("imagenet", "cifar")


def resnet_stem(stem: str, in_channels: int, width: int, layer: Layer = BN_RELU) -> nn.Sequential:
    """Build Table 1's conv1 with its pooling, to a quarter of the resolution (`imagenet`), or a 3x3 convolution
    that keeps the resolution (`cifar`, Section 4.2)."""
    following = layer.normalization(width), layer.activation()
    if stem == "cifar":
        return nn.Sequential(conv3x3(in_channels, width, bias=layer.bias), *following)
    first = nn.Conv2d(in_channels, width, kernel_size=7, stride=2, padding=3, bias=layer.bias)
    return nn.Sequential(first, *following, nn.MaxPool2d(3, stride=2, padding=1))


def check_stem(stem: str) -> None:
    check_choice("stem", stem, STEMS)
