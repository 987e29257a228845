"""Highway networks (Srivastava, Greff and Schmidhuber, 2015): shortcuts with learned gates."""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.checks import check_positive
from resnet_lab.models.blocks import head
from resnet_lab.models.initialization import he_initialization


class HighwayLayer(nn.Module):
    """H(x) T(x) + x (1 - T(x)), H = relu(conv3x3), T = sigmoid(conv3x3); (N, channels, H, W) to the same.

    `transform_bias` is the initial bias of T; if it is negative, the layer starts by passing its input through.
    """

    def __init__(self, channels: int, transform_bias: float) -> None:
        super().__init__()
        self.transform_bias = transform_bias
        self.transform = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.gate = nn.Conv2d(channels, channels, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, F.relu(self.transform(x)), torch.sigmoid(self.gate(x)))


def highway(
    depth: int, in_channels: int = 3, num_classes: int = 10, width: int = 16, transform_bias: float = -1.0
) -> nn.Sequential:
    """A highway net for small images, from (N, in_channels, H, W) to (N, num_classes) logits.

    `depth` - 1 convolutions in three stages of `width`, 2 `width` and 4 `width` channels, and a linear head; the
    first convolution of each stage changes the dimensions and is plain, the others are highway layers. Like the
    original, the net has no batch normalization.

    Raises:
        ValueError: depth is below 7, a size is not a positive integer, or the bias is not a number.
    """
    check_positive(depth=depth, in_channels=in_channels, num_classes=num_classes, width=width)
    if depth < 7:
        raise ValueError(f"depth must be 7 or more (19 and 32 in the paper's Table 6), got {depth}")
    if not isinstance(transform_bias, float | int) or isinstance(transform_bias, bool):
        raise ValueError(f"transform_bias must be a number, got {transform_bias!r}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_channels
    for number in range(3):
        out_channels = width * 2**number
        plain = nn.Conv2d(channels, out_channels, kernel_size=3, stride=1 if number == 0 else 2, padding=1)
        convolutions = (depth - 1) // 3 + (number < (depth - 1) % 3)
        gated = (HighwayLayer(out_channels, transform_bias) for _ in range(convolutions - 1))
        layers[f"stage{number + 1}"] = nn.Sequential(plain, nn.ReLU(inplace=True), *gated)
        channels = out_channels
    layers["head"] = head(channels, num_classes)
    net = nn.Sequential(layers)
    he_initialization(net)
    for layer in net.modules():
        if isinstance(layer, HighwayLayer) and layer.gate.bias is not None:
            nn.init.constant_(layer.gate.bias, layer.transform_bias)
    return net
