"""1x1 convolutions with a stride, computed as what they are: a 1x1 convolution of the subsampled input."""

from torch import Tensor, nn


class PointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution without bias, from (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).

    On the CPU the input is subsampled before: with a stride in the convolution oneDNN writes its gradient out of
    bounds where there are few channels, and hangs, crashes or returns wrong gradients (uxlfoundation/oneDNN#6035).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        vertical, horizontal = self.stride
        if input.device.type != "cpu" or (vertical, horizontal) == (1, 1):
            return super().forward(input)
        return nn.functional.conv2d(input[:, :, ::vertical, ::horizontal], self.weight)
