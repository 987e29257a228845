"""Nets like a CIFAR net, of another depth: fresh, or made of it by inserting identities."""

import copy
import math

import torch
from torch import Tensor, nn

from resnet_lab.analyses.inside_blocks import has_relu
from resnet_lab.analyses.measured import Moments
from resnet_lab.checks import UserError
from resnet_lab.models import resnet_cifar
from resnet_lab.models.blocks import BasicBlock
from resnet_lab.models.layer import BN_RELU
from resnet_lab.models.shortcuts import PadShortcut

STAGES = ("stage1", "stage2", "stage3")


def fresh(net: nn.Module, depth: int, seed: int) -> nn.Sequential:
    """A net of that depth and with He's weights, otherwise like this one.

    Raises:
        UserError: it is not a plain or residual CIFAR net with batch normalization, ReLU and two layers per block.
        ValueError: there is no such depth.
    """
    stem, linear = first_layers(net)[0], net.get_submodule("head.2")
    assert isinstance(linear, nn.Linear)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return resnet_cifar(depth, option(net), stem.in_channels, linear.out_features, stem.out_channels)


def first_layers(net: nn.Module) -> tuple[nn.Conv2d, BasicBlock]:
    """The stem's convolution and the first block; raises as `fresh`."""
    names = [name for name, _ in net.named_children()]
    block = net.get_submodule("stage1.0") if names == ["stem", *STAGES, "head"] else None
    stem = net.get_submodule("stem.0") if block is not None else None
    usual = isinstance(block, BasicBlock) and block.convolutions == 2 and isinstance(block.bn1, nn.BatchNorm2d)
    if not usual or not has_relu(block) or not isinstance(stem, nn.Conv2d):  # type: ignore[arg-type]
        raise UserError(
            "this needs a plain or residual CIFAR net with batch normalization, ReLU and two layers per block; "
            "take cifar_plain or cifar_resnet"
        )
    assert isinstance(block, BasicBlock)
    return stem, block


def option(net: nn.Module) -> str:
    """Its shortcuts: none, A, B or C."""
    here, wider = (net.get_submodule(f"{stage}.0").shortcut for stage in STAGES[:2])
    if here is None:
        return "none"
    return "A" if isinstance(wider, PadShortcut) else "B" if isinstance(here, nn.Identity) else "C"


def deepened(net: nn.Module, depth: int, images: Tensor) -> nn.Module:
    """A copy of that depth that computes the same in evaluation mode ("solution by construction", Section 1).

    Blocks that pass on what they get are added to the end of each stage. In a plain net they have identity
    kernels, and batch normalization whose scale and shift undo what it does to the images; as what they get is
    behind a ReLU, their own change nothing. In a residual net F ends with a scale and a shift of 0.

    Raises:
        UserError: as `fresh`, or shortcut C, which has no identity.
        ValueError: the depth is not 6n+2, or not above that of the net.
    """
    first_layers(net)
    changed = copy.deepcopy(net).eval()
    blocks = len(list(net.get_submodule("stage1").children()))
    if depth % 6 != 2 or depth <= 6 * blocks + 2:
        raise ValueError(f"depth must be 6n+2 and above the {6 * blocks + 2} of the net, got {depth}")
    if option(net) == "C":
        raise UserError("with option C there is no block that passes on what it gets; take A or B")
    signal = images
    with torch.no_grad():
        for name, part in list(changed.named_children())[:-1]:
            signal = part(signal)
            if name in STAGES:
                assert isinstance(part, nn.Sequential)
                part.extend([identity(signal, option(net)) for _ in range((depth - 2) // 6 - blocks)])
    return changed


def identity(signal: Tensor, shortcut: str) -> BasicBlock:
    """A block that passes the signal (N, C, H, W) on, which is not negative."""
    channels = signal.shape[1]
    with torch.random.fork_rng(devices=[]):  # its weights are drawn, and replaced
        block = BasicBlock(channels, channels, 1, shortcut, layer=BN_RELU).eval()
    moments = [Moments().plus(signal[:, channel]) for channel in range(channels)]
    for number in (1, 2):
        nn.init.dirac_(block.get_parameter(f"conv{number}.weight"))
        undo(getattr(block, f"bn{number}"), moments)
    if shortcut != "none":
        for parameter in ("bn2.weight", "bn2.bias"):
            nn.init.zeros_(block.get_parameter(parameter))
    return block


def undo(normalization: nn.BatchNorm2d, moments: list[Moments]) -> None:
    """Have batch normalization, by these statistics, give back what it gets."""
    assert normalization.running_mean is not None
    assert normalization.running_var is not None
    for channel, found in enumerate(moments):
        variance = found.std**2
        normalization.running_mean[channel] = normalization.bias[channel] = found.mean
        normalization.running_var[channel] = variance
        normalization.weight[channel] = math.sqrt(variance + normalization.eps)
