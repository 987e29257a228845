"""A net that classifies, taken apart to be the backbone of another task."""

from collections import OrderedDict
from typing import Any, NamedTuple, cast

import torch
from torch import nn
from torchvision import models

from resnet_lab.checks import UserError
from resnet_lab.models.structure import has_weights

PROBE = 128  # pixels of the image that tells strides and channels


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


def split(net: nn.Module, stride: int | None, in_channels: int) -> Backbone:
    """Take a net apart after its last part whose stride on the image is at most `stride` pixels.

    With None the features are all but the head, or all of VGG's convolutions. The paper takes 16 for detection.

    Raises:
        UserError: the net is not a sequence of parts, or no part has so small a stride.
    """
    parts, end, width = taken_apart(net)
    shapes = shapes_of(parts, in_channels)
    strides = [PROBE // height for _, height, _ in shapes]
    cut = sum(each <= stride for each in strides) if stride is not None else len(parts)
    if not cut:
        raise UserError(f"task.stride={stride} leaves no layers of this net, whose strides begin at {strides[0]}")
    before, after = list(parts.items())[:cut], list(parts.items())[cut:]
    features = nn.Sequential(OrderedDict(before))
    # regions are pooled already
    after = after if any(has_weights(part) for _, part in after) else []
    rest = nn.Sequential(OrderedDict([*after, *end]))
    return Backbone(features, shapes[cut - 1][0], rest, width)


def taken_apart(net: nn.Module) -> tuple[dict[str, nn.Module], list[tuple[str, nn.Module]], int]:
    """The parts of a net before its head, the layers between these and the last one, and the width of the last."""
    last: Any
    if isinstance(net, models.VGG):
        parts = dict(net.features.named_children())
        *hidden, last = net.classifier
        end = [("pool", net.avgpool), ("flatten", nn.Flatten()), ("linear", nn.Sequential(*hidden))]
        return {f"layer{name}": part for name, part in parts.items()}, end, last.in_features
    parts = dict(net.named_children())
    if not isinstance(net, nn.Sequential) or "head" not in parts:
        raise UserError(f"{type(net).__name__} cannot be a backbone; choose a plain, residual, highway or VGG net")
    *pooling, last = cast(nn.Sequential, parts.pop("head"))
    return parts, [("pool", nn.Sequential(*pooling))], last.in_features


def shapes_of(parts: dict[str, nn.Module], in_channels: int) -> list[tuple[int, ...]]:
    """The shape (C, h, w) of the output of each part for an image of `PROBE` pixels."""
    modes = [(module, module.training) for part in parts.values() for module in part.modules()]
    weight = next(parameter for part in parts.values() for parameter in part.parameters())
    x = torch.zeros(1, in_channels, PROBE, PROBE, dtype=weight.dtype)
    shapes = []
    with torch.no_grad():
        for part in parts.values():
            x = part.eval()(x)
            shapes.append(tuple(x.shape[1:]))
    for module, training in modes:
        module.training = training
    return shapes


def freeze_normalization(features: nn.Module) -> None:
    """Make batch normalization a fixed scale and shift, as the paper does in fine-tuning (its appendix).

    The layers are put into evaluation mode, which a Trainer keeps.
    """
    for module in features.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False).eval()
