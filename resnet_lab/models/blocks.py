"""Building blocks (Figure 2 and Figure 5, left): two 3x3 convolutions, with or without a shortcut."""

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.models.shortcuts import shortcut_connection


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


class PlainBlock(nn.Module):
    """relu(F(x)), F = conv3x3 - BN - ReLU - conv3x3 - BN; the first convolution strides."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def layers(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        normalized: Tensor = self.bn2(self.conv2(out))
        return normalized

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x), inplace=True)


class ResidualBlock(PlainBlock):
    """relu(F(x) + shortcut(x)), Equations 1 and 2."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = shortcut_connection(shortcut, in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.shortcut(x), inplace=True)


def basic_block(shortcut: str, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A plain block for `none`, a residual one for the options A, B and C."""
    if shortcut == "none":
        return PlainBlock(in_channels, out_channels, stride)
    return ResidualBlock(in_channels, out_channels, stride, shortcut)
