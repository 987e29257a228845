"""A net that classifies, taken apart to be the backbone of another task."""

from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision import models

from resnet_lab.checks import UserError, hint
from resnet_lab.models.structure import has_weights

PROBE = 64  # pixels of the image that tells the number of channels


class Backbone(NamedTuple):
    """The layers that see the whole image, and those after them.

    `features` goes from (N, C, H, W) images to (N, channels, h, w). `rest` goes from features of any size, or of
    7x7 for VGG, to (N, rest_channels): what is between the features and the last layer of the net, which scores
    the classes and is left out.
    """

    features: nn.Sequential
    channels: int
    rest: nn.Sequential
    rest_channels: int


class OnBackbone(nn.Module):
    """A network that keeps the net that its backbone was, for weights and parts by that net's own names."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._net = (net,)  # in a tuple, so that its layers are not registered twice

    @property
    def exported(self) -> nn.Module:
        """The part that torchvision would name in the same way."""
        return self

    @property
    def counted(self) -> nn.Module:
        """The part whose multiply-adds are the same for every image of a size."""
        return self


def backbone_of(network: nn.Module) -> nn.Module:
    """The net that classifies in the backbone of a task's network; a net without a task is its own."""
    return network._net[0] if isinstance(network, OnBackbone) else network


def counted_of(network: nn.Module) -> nn.Module:
    """The part of a task's network whose cost can be counted; a net without a task is its own."""
    return network.counted if isinstance(network, OnBackbone) else network


def split(net: nn.Module, at: str | None, in_channels: int) -> Backbone:
    """Take a net apart after the part `at`; None for all but the head, and for VGG all but its last pooling.

    Raises:
        UserError: the net is not a sequence of parts, or has no such part.
    """
    if isinstance(net, models.VGG):
        if at is not None:
            raise UserError(f"task.features must be null for VGG nets, got {at!r}")
        features = nn.Sequential(OrderedDict(features=net.features[:-1]))
        rest = nn.Sequential(net.avgpool, nn.Flatten(), *net.classifier[:-1])
        return Backbone(features, channels_of(features, in_channels), rest, net.classifier[-1].in_features)
    if not isinstance(net, nn.Sequential) or "head" not in dict(net.named_children()):
        raise UserError(f"{type(net).__name__} cannot be a backbone; choose a plain, residual, highway or VGG net")
    parts = OrderedDict(net.named_children())
    head: Any = parts.pop("head")
    names = [name for name, part in parts.items() if has_weights(part)]
    if (last := names[-1] if at is None else at) not in names:
        raise UserError(f"task.features must be a part of the net, got {at!r}; {hint(str(at), names)}")
    cut = list(parts).index(last) + 1 if at is not None else len(parts)
    before, after = list(parts.items())[:cut], list(parts.items())[cut:]
    features = nn.Sequential(OrderedDict(before))
    rest = nn.Sequential(OrderedDict([*after, ("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]))
    return Backbone(features, channels_of(features, in_channels), rest, head[-1].in_features)


def channels_of(features: nn.Sequential, in_channels: int) -> int:
    """The number of channels of its output."""
    modes = [(module, module.training) for module in features.modules()]
    weight = next(features.parameters())
    with torch.no_grad():
        out: Tensor = features.eval()(torch.zeros(1, in_channels, PROBE, PROBE, dtype=weight.dtype))
    for module, training in modes:
        module.training = training
    return out.shape[1]


def freeze_normalization(features: nn.Module) -> None:
    """Make batch normalization a fixed scale and shift, as the paper does in fine-tuning (its appendix).

    The layers are put into evaluation mode, which a Trainer keeps.
    """
    for module in features.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False).eval()
