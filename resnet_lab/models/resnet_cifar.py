"""The CIFAR-10 networks of Section 4.2, 6n+2 layers, plain or residual, and their pre-activation form."""

from collections import OrderedDict
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab import families
from resnet_lab.checks import check_choice, check_positive
from resnet_lab.families import SHORTCUTS
from resnet_lab.models.blocks import BasicBlock, Block, MakeBlock, conv3x3, head, stage
from resnet_lab.models.initialization import INITIALIZATIONS, he_initialization
from resnet_lab.models.layer import layer_of
from resnet_lab.models.shortcuts import shortcut_connection
from resnet_lab.models.stems import resnet_stem


def resnet_cifar(
    depth: int,
    shortcut: str,
    in_channels: int = 3,
    num_classes: int = 10,
    width: int = 16,
    norm: str = "batch",
    activation: str = "relu",
    initialization: str = "he",
    layers_per_block: int = 2,
) -> nn.Sequential:
    """A net of 6n+2 weighted layers for small images, from (N, in_channels, H, W) to (N, num_classes) logits.

    A 3x3 stem, three stages of n blocks with `width`, 2 `width` and 4 `width` channels, the last two
    halving the resolution, global average pooling and a linear head. The paper's width is 16.
    `shortcut` is `none` for the plain net, or the option A, B or C of Section 4.1; the paper's CIFAR
    nets use A.

    The other settings are not the paper's. `norm` is `batch`, or `none`: then the convolutions have a bias.
    `activation` is `relu`, `sigmoid` or `tanh`, in the stem, in the blocks and after the addition.
    `initialization` is one of `initialization.INITIALIZATIONS`; `zero_last` needs shortcuts and batch
    normalization. With `layers_per_block` convolutions in a block, 1, 2 or 3, the depth is
    3 `layers_per_block` n + 2.

    Raises:
        ValueError: there is no such depth, a choice is unknown, a size is not a positive integer, or `zero_last`
            finds nothing to set to zero.
    """
    check_arguments(depth, shortcut, in_channels, num_classes, width, layers_per_block=layers_per_block)
    families.check_initialization(initialization, shortcut, norm)
    layer = layer_of(norm, activation)
    make_block = partial(BasicBlock, shortcut=shortcut, convolutions=layers_per_block, layer=layer)
    stem = resnet_stem("cifar", in_channels, width, layer)
    layers = OrderedDict(stem=stem, **stages(make_block, (depth - 2) // (3 * layers_per_block), width))
    net = nn.Sequential(layers | {"head": head(4 * width, num_classes)})
    INITIALIZATIONS[initialization](net)
    return net


def preact_resnet_cifar(
    depth: int, shortcut: str, in_channels: int = 3, num_classes: int = 10, width: int = 16
) -> nn.Sequential:
    """`resnet_cifar` with pre-activation blocks ("Identity Mappings in Deep Residual Networks", Figure 4e).

    Within a stage the output of block L is exactly x_l plus the sum of F over the blocks from l to L. Arguments,
    shapes and errors are those of `resnet_cifar` with two layers per block, batch normalization, ReLU and He
    initialization, except that `shortcut` cannot be `none`.
    """
    check_arguments(depth, shortcut, in_channels, num_classes, width, SHORTCUTS[1:])
    stem = nn.Sequential(conv3x3(in_channels, width))
    make_block = partial(PreActivationBlock, shortcut=shortcut)
    layers = OrderedDict(stem=stem, **stages(make_block, (depth - 2) // 6, width))
    layers["activation"] = nn.Sequential(nn.BatchNorm2d(4 * width), nn.ReLU(inplace=True))
    net = nn.Sequential(layers | {"head": head(4 * width, num_classes)})
    he_initialization(net)
    return net


class PreActivationBlock(Block):
    """F(x) + shortcut(x) without a ReLU after the addition, F = BN - ReLU - conv3x3 - BN - ReLU - conv3x3."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.shortcut = shortcut_connection(shortcut, in_channels, out_channels, stride)

    def layers(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.bn1(x), inplace=True))
        out = self.conv2(F.relu(self.bn2(out), inplace=True))
        return out  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.added(x)


def stages(make_block: MakeBlock, blocks: int, width: int) -> dict[str, nn.Module]:
    """Three stages of so many blocks, each twice as wide as the one before."""
    return {
        "stage1": stage(make_block, width, width, blocks, stride=1),
        "stage2": stage(make_block, width, 2 * width, blocks, stride=2),
        "stage3": stage(make_block, 2 * width, 4 * width, blocks, stride=2),
    }


def check_arguments(
    depth: int,
    shortcut: str,
    in_channels: int,
    num_classes: int,
    width: int,
    shortcuts: tuple[str, ...] = SHORTCUTS,
    layers_per_block: int = 2,
) -> None:
    families.check_cifar(depth, layers_per_block)
    check_choice("shortcut", shortcut, shortcuts)
    check_positive(in_channels=in_channels, num_classes=num_classes, width=width)
