"""1x1 convolutions; with a stride they are computed on the subsampled input."""

from torch import Tensor, nn

FEW = 16  # channels in one block of oneDNN's kernels


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution, from (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).

    On the CPU an input with few channels is subsampled first: given the stride, oneDNN writes the gradient out of
    bounds, and hangs, crashes or returns wrong gradients (uxlfoundation/oneDNN#6035).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, bias: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, stride=stride, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        vertical, horizontal = self.stride
        if input.device.type != "cpu" or (vertical, horizontal) == (1, 1) or self.in_channels >= FEW:
            return super().forward(input)
        return nn.functional.conv2d(input[:, :, ::vertical, ::horizontal], self.weight, self.bias)
