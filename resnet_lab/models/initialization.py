"""How the weights of a net are drawn at first; biases start at zero."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from resnet_lab.models.blocks import BasicBlock

NORMAL_STD = 0.01
DIRAC_NOISE = 0.1  # of He's standard deviation; identity kernels alone would leave equal channels equal forever


def he_initialization(net: nn.Module) -> None:
    """Zero-mean normal weights of variance 2 / fan_in, zero biases (the paper's reference 13)."""
    initialize(net, he)


def initialize(net: nn.Module, draw: Callable[[Tensor], object]) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            draw(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def he(weight: Tensor) -> None:
    nn.init.kaiming_normal_(weight, nonlinearity="relu")


@torch.no_grad()
def dirac(weight: Tensor) -> None:
    """Identity kernels with a tenth of He's noise in 3x3 convolutions, He elsewhere.

    With more output channels than input channels, those that are left over have the noise alone.
    """
    he(weight)
    if weight.shape[2:] == (3, 3):
        noise = DIRAC_NOISE * weight
        nn.init.dirac_(weight).add_(noise)


@torch.no_grad()
def delta_orthogonal(weight: Tensor) -> None:
    """Convolutions that are zero but for the kernel's centre, an orthogonal matrix, semi-orthogonal where the
    numbers of channels differ ("Dynamical Isometry and a Mean Field Theory of CNNs", Xiao et al., 2018); He in the
    linear layer."""
    if weight.dim() != 4:
        return he(weight)
    centre = nn.init.orthogonal_(torch.empty_like(weight[:, :, 0, 0]))
    nn.init.zeros_(weight)[:, :, weight.shape[2] // 2, weight.shape[3] // 2] = centre


def zero_last(net: nn.Module) -> None:
    """He, and zero for the scale of each block's last batch normalization, so that a block starts as its shortcut
    ("Accurate, Large Minibatch SGD", Goyal et al., 2017)."""
    he_initialization(net)
    for block in net.modules():
        if isinstance(block, BasicBlock):
            nn.init.zeros_(block.get_parameter(f"bn{block.convolutions}.weight"))


INITIALIZATIONS: dict[str, Callable[[nn.Module], None]] = {
    "he": he_initialization,
    "xavier": partial(initialize, draw=nn.init.xavier_normal_),
    "normal": partial(initialize, draw=partial(nn.init.normal_, std=NORMAL_STD)),
    "dirac": partial(initialize, draw=dirac),
    "delta_orthogonal": partial(initialize, draw=delta_orthogonal),
    "zero_last": zero_last,
}
