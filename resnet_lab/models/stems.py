"""What a net does first: an ImageNet stem shrinks images of 224 pixels, which those of 32 would not survive."""

from torch import nn

from resnet_lab.checks import check_choice
from resnet_lab.models.blocks import conv3x3

STEMS = ("imagenet", "cifar")


def resnet_stem(stem: str, in_channels: int, width: int) -> nn.Sequential:
    """`imagenet` is Table 1's conv1 and its pooling, to a quarter of the resolution; `cifar` a 3x3 convolution
    that keeps it (Section 4.2)."""
    if stem == "cifar":
        return nn.Sequential(conv3x3(in_channels, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
    return nn.Sequential(
        nn.Conv2d(in_channels, width, kernel_size=7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    )


def check_stem(stem: str) -> None:
    check_choice("stem", stem, STEMS)
