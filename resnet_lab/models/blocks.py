"""Building blocks, plain or residual (Figure 2 and Figure 5), and the stages made of them."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.models.layer import BN_RELU, Layer
from resnet_lab.models.pointwise import PointwiseConv2d
from resnet_lab.models.shortcuts import shortcut_connection

MakeBlock = Callable[[int, int, int], nn.Module]  # (in_channels, out_channels, stride)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=bias)


class Block(nn.Module):
    """relu(F(x) + shortcut(x)), Equations 1 and 2; relu(F(x)) in a plain net. F is `layers`.

    The nonlinearity is that of `layer`, ReLU in the paper.
    """

    shortcut: nn.Module | None
    convolutions: int  # in F

    def __init__(self, layer: Layer = BN_RELU) -> None:
        super().__init__()
        # the function alone: a module that runs several times would not be one layer to those who count
        self.activate = layer.activation().forward

    def layers(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def added(self, x: Tensor) -> Tensor:
        """F(x) + shortcut(x); F(x) in a plain net."""
        out = self.layers(x)
        return out if self.shortcut is None else out + self.shortcut(x)

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.activate(self.added(x))
        return activated


class BasicBlock(Block):
    """F = conv3x3 - BN - ReLU - conv3x3 - BN; the first convolution strides (Figure 5, left).

    `convolutions` is how many there are in F, two in the paper, and `layer` what follows each of them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        shortcut: str,
        convolutions: int = 2,
        layer: Layer = BN_RELU,
    ) -> None:
        super().__init__(layer)
        self.convolutions = convolutions
        shapes = [(in_channels, out_channels, stride)] + [(out_channels, out_channels, 1)] * (convolutions - 1)
        for number, shape in enumerate(shapes, 1):
            self.add_module(f"conv{number}", conv3x3(*shape, bias=layer.bias))
            self.add_module(f"bn{number}", layer.normalization(out_channels))
        self.shortcut = shortcut_connection(shortcut, in_channels, out_channels, stride, layer)

    def layers(self, x: Tensor) -> Tensor:
        for number in range(1, self.convolutions):
            x = self.activate(self.normalized(number, x))
        return self.normalized(self.convolutions, x)

    def normalized(self, number: int, x: Tensor) -> Tensor:
        """The output of one convolution after its normalization."""
        out: Tensor = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x))
        return out


class Bottleneck(Block):
    """F = conv1x1 - BN - ReLU - conv3x3 - BN - ReLU - conv1x1 - BN, a quarter as wide inside (Figure 5, right).

    `stride_in` names the convolution that strides: the paper's is the first 1x1, torchvision's the 3x3.
    """

    convolutions = 3

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str, stride_in: str) -> None:
        super().__init__()
        width = out_channels // 4
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = PointwiseConv2d(in_channels, width, first)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, second)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = PointwiseConv2d(width, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = shortcut_connection(shortcut, in_channels, out_channels, stride)

    def layers(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        normalized: Tensor = self.bn3(self.conv3(out))
        return normalized


def stage(make_block: MakeBlock, in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    """`blocks` blocks at one resolution; the first strides and changes the number of channels."""
    first = make_block(in_channels, out_channels, stride)
    return nn.Sequential(first, *(make_block(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def head(channels: int, num_classes: int) -> nn.Sequential:
    """Global average pooling, at any resolution, and a linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
