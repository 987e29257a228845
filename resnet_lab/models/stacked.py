"""One large convolution, or several small ones that see as much (VGG's argument)."""

from collections import OrderedDict

from torch import nn

from resnet_lab.checks import check_positive
from resnet_lab.models.blocks import head
from resnet_lab.models.initialization import he_initialization

FIELD = 7  # pixels
KERNELS = (3, 7)


def stacked(kernel_size: int, in_channels: int = 3, num_classes: int = 10, width: int = 16) -> nn.Sequential:
    """One 7x7 convolution, or three 3x3 convolutions, between a 1x1 stem and a linear head.

    Each convolution has `width` channels, batch normalization and a ReLU; it keeps the resolution. From
    (N, in_channels, H, W) to (N, num_classes) logits.

    Raises:
        ValueError: the kernel is neither 3 nor 7, or a size is not a positive integer.
    """
    check_positive(kernel_size=kernel_size, in_channels=in_channels, num_classes=num_classes, width=width)
    if kernel_size not in KERNELS:
        raise ValueError(f"kernel_size must be one of {', '.join(map(str, KERNELS))}, got {kernel_size}")
    count = (FIELD - 1) // (kernel_size - 1)
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=layer(in_channels, width, 1))
    layers["body"] = nn.Sequential(*(layer(width, width, kernel_size) for _ in range(count)))
    layers["head"] = head(width, num_classes)
    net = nn.Sequential(layers)
    he_initialization(net)
    return net


def layer(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )
