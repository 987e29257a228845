"""Shortcut connections (Section 3.3), which a residual block adds to the output of its layers."""

from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.models.layer import BN_RELU, Layer
from resnet_lab.models.pointwise import PointwiseConv2d


class PadShortcut(nn.Module):
    """Option A: subsample with `stride` and append zero channels; no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.extra_channels = out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_channels))


def projection(in_channels: int, out_channels: int, stride: int, layer: Layer) -> nn.Module:
    """The 1x1 convolution W_s of Equation 2, with the normalization of the other layers."""
    return nn.Sequential(
        PointwiseConv2d(in_channels, out_channels, stride, layer.bias),
        layer.normalization(out_channels),
    )


def shortcut_connection(
    option: str, in_channels: int, out_channels: int, stride: int, layer: Layer = BN_RELU
) -> nn.Module | None:
    """Build the shortcut of a residual block; None for `none`, a plain block.

    `A` pads where the dimensions increase, `B` projects there, `C` projects everywhere; where the shape stays,
    A and B are the identity. The shortcut maps (N, in_channels, H, W) to
    (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """
    if option == "none":
        return None
    same_shape = in_channels == out_channels and stride == 1
    if option == "C" or (option == "B" and not same_shape):
        return projection(in_channels, out_channels, stride, layer)
    return nn.Identity() if same_shape else PadShortcut(in_channels, out_channels, stride)
