"""Nets that classify, taken apart to be backbones."""

from typing import Any

import pytest
import torch
from torch import nn

from resnet_lab.checks import UserError
from resnet_lab.models import alexnet, googlenet, highway, preact_resnet_cifar, resnet_cifar, resnet_imagenet, vgg
from resnet_lab.models.backbone import split
from resnet_lab.tasks import Detection, Localization, Segmentation

NETS = {
    "ResNet-18": lambda: resnet_imagenet(18, "B", width=8, num_classes=5),
    "plain-34": lambda: resnet_imagenet(34, "none", width=8, num_classes=5),
    "ResNet-101": lambda: resnet_imagenet(101, "B", width=4, num_classes=5),
    "VGG-16": lambda: vgg(16, width=8, num_classes=5),
    "ResNet-8": lambda: resnet_cifar(8, "A", width=8),
    "pre-activation": lambda: preact_resnet_cifar(8, "A", width=8),
    "highway": lambda: highway(8, width=8),
}
# by net and the greatest stride: the stride of the features, their channels, those after the rest
SPLITS: dict[tuple[str, int | None], tuple[int, int, int]] = {
    ("ResNet-18", 16): (16, 32, 64),
    ("ResNet-18", 8): (8, 16, 64),
    ("ResNet-18", None): (32, 64, 64),
    ("plain-34", 16): (16, 32, 64),
    ("ResNet-101", 16): (16, 64, 128),
    ("ResNet-101", 31): (16, 64, 128),
    ("VGG-16", 16): (16, 64, 512),
    ("VGG-16", 8): (8, 64, 512),
    ("VGG-16", None): (32, 64, 512),
    ("ResNet-8", 16): (4, 32, 32),
    ("ResNet-8", 2): (2, 16, 32),
    ("ResNet-8", 1): (1, 8, 32),
    ("pre-activation", 2): (2, 16, 32),
    ("pre-activation", None): (4, 32, 32),
    ("highway", 2): (2, 16, 32),
}


def last_layer(net: Any) -> nn.Module:
    layer: nn.Module = (net.classifier if hasattr(net, "classifier") else net.head)[-1]
    return layer


@pytest.mark.parametrize(("name", "stride"), SPLITS, ids=lambda value: str(value))
def test_features_are_the_last_layers_of_a_stride(name: str, stride: int | None) -> None:
    """What follows them, and the last layer, make of them what the net itself makes of the images."""
    net = NETS[name]()
    modes = [module.training for module in net.modules()]
    backbone = split(net, stride, 3)
    assert [module.training for module in net.modules()] == modes
    net.eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = backbone.features(images)
        rest = backbone.rest(features)
    of_features, channels, rest_channels = SPLITS[name, stride]
    assert features.shape == (2, channels, 64 // of_features, 64 // of_features)
    assert (backbone.channels, backbone.rest_channels) == (channels, rest_channels)
    assert rest.shape == (2, rest_channels)
    if name != "VGG-16" or stride in (8, None):  # whose last pooling is that of the regions
        with torch.no_grad():
            torch.testing.assert_close(last_layer(net)(rest), net(images))


def test_a_vgg_judges_regions_by_its_linear_layers() -> None:
    """Those of 7x7 cells are neither pooled nor averaged before them, as in Fast R-CNN."""
    net: Any = NETS["VGG-16"]().eval()
    cells = torch.randn(3, 64, 7, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(split(net, 16, 3).rest(cells), net.classifier[:-1](cells.flatten(1)))


@pytest.mark.parametrize(
    ("net", "stride", "told"),
    [
        (alexnet(stem="cifar"), 16, "AlexNet cannot be a backbone; choose a plain, residual, highway or VGG net"),
        (googlenet(stem="cifar"), 16, "GoogLeNet cannot be a backbone"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 3)), 16, "Sequential cannot be a backbone"),
        (NETS["ResNet-18"](), 2, r"task.stride=2 leaves no layers of this net, whose strides begin at 4"),
    ],
    ids=["AlexNet", "GoogLeNet", "your own", "a small stride"],
)
def test_what_cannot_be_a_backbone_is_refused(net: nn.Module, stride: int, told: str) -> None:
    with pytest.raises(UserError, match=told):
        split(net, stride, 3)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (lambda: Detection(region_head="deep"), "region_head must be one of mlp, rest"),
        (lambda: Detection(anchor_sizes=[]), r"anchor_sizes must be a list of numbers above 0, got \[\]"),
        (
            lambda: Detection(aspect_ratios=[1, -1]),
            r"aspect_ratios must be a list of numbers above 0, got \[1, -1\]",
        ),
        (lambda: Detection(proposals=0), "proposals must be a positive integer, got 0"),
        (lambda: Detection(shorter_side=0), "shorter_side must be a positive integer, got 0"),
        (lambda: Localization(hidden=0), "hidden must be a positive integer, got 0"),
        (lambda: Segmentation(head="unet"), "head must be one of fcn, deeplab"),
    ],
)
def test_a_wrong_setting_of_a_task_is_refused(task: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        task()
