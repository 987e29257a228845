"""The inception module ("Going Deeper with Convolutions", Szegedy et al., 2014), naive and with bottlenecks."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnet_lab.checks import check_choice, check_positive
from resnet_lab.models.blocks import head
from resnet_lab.models.initialization import he_initialization

MODULES = ("naive", "bottleneck")


def convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class Branches(nn.ModuleList):
    """Branches whose outputs are concatenated along the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], 1)


def filters_of(module: str, width: int) -> list[int]:
    """The filters of each convolution in a module, branch by branch, about in GoogLeNet's proportions."""
    if module == "naive":
        return [width, 2 * width, width // 2]
    return [width, width, 2 * width, width // 4, width // 2, width // 2]


def naive_module(in_channels: int, one: int, three: int, five: int) -> tuple[Branches, int]:
    """Figure 2a: 1x1, 3x3 and 5x5 convolutions beside a pooling, and the number of output channels, to which the
    pooling adds those of the input."""
    branches = (
        convolution(in_channels, one, 1),
        convolution(in_channels, three, 3),
        convolution(in_channels, five, 5),
        nn.MaxPool2d(3, stride=1, padding=1),
    )
    return Branches(branches), in_channels + one + three + five


def bottleneck_module(
    in_channels: int, one: int, before_three: int, three: int, before_five: int, five: int, pooled: int
) -> tuple[Branches, int]:
    """Figure 2b: the same with 1x1 convolutions before the 3x3 and the 5x5 and after the pooling, which keep the
    channels few, and the number of output channels."""
    branches = (
        convolution(in_channels, one, 1),
        nn.Sequential(convolution(in_channels, before_three, 1), convolution(before_three, three, 3)),
        nn.Sequential(convolution(in_channels, before_five, 1), convolution(before_five, five, 5)),
        nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), convolution(in_channels, pooled, 1)),
    )
    return Branches(branches), one + three + five + pooled


def inception(
    module: str,
    in_channels: int = 3,
    num_classes: int = 10,
    width: int = 16,
    modules: int = 2,
    filters: list[int] | None = None,
) -> nn.Sequential:
    """A net of inception modules for small images, from (N, in_channels, H, W) to (N, num_classes) logits.

    A 3x3 stem of 4 `width` channels, three stages of `modules` modules with a pooling to half the resolution
    between them, global average pooling and a linear head. The first stage's modules have `width` 1x1, 2 `width`
    3x3 and `width` / 2 5x5 filters, as the first module of GoogLeNet with 64; or the numbers in `filters`, in the
    order of the arguments of `naive_module` (three) or `bottleneck_module` (six). The next stages have twice and
    four times as many.

    Raises:
        ValueError: the module is unknown, a size is not a positive integer, width is not a multiple of 4, or
            `filters` has the wrong length.
    """
    check_choice("module", module, MODULES)
    check_positive(in_channels=in_channels, num_classes=num_classes, width=width, modules=modules)
    if width % 4:
        raise ValueError(f"width must be a multiple of 4, got {width}")
    usual = filters_of(module, width)
    filters = usual if filters is None else filters
    if not isinstance(filters, list) or len(filters) != len(usual):
        raise ValueError(f"filters must be a list of {len(usual)} numbers for module={module}, got {filters!r}")
    for number in filters:
        check_positive(filters=number)
    make: Callable[..., tuple[Branches, int]] = naive_module if module == "naive" else bottleneck_module
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=convolution(in_channels, 4 * width, 3))
    channels = 4 * width
    for number in range(3):
        stage = nn.Sequential() if number == 0 else nn.Sequential(nn.MaxPool2d(3, stride=2, padding=1))
        for _ in range(modules):
            block, channels = make(channels, *(2**number * count for count in filters))
            stage.append(block)
        layers[f"stage{number + 1}"] = stage
    layers["head"] = head(channels, num_classes)
    net = nn.Sequential(layers)
    he_initialization(net)
    return net
