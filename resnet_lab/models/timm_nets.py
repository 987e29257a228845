"""Inception nets with and without residual connections (Szegedy et al., 2016), from timm."""

from torch import nn

from resnet_lab.checks import UserError, check_choice, check_positive
from resnet_lab.models.stems import check_stem

# timm also accepts names with a scheme, which it would look up on the network or on the disk
NAMES = ("inception_v4", "inception_resnet_v2")


def inception_v4(in_channels: int = 3, num_classes: int = 1000, stem: str = "imagenet") -> nn.Module:
    """Inception-v4, from (N, in_channels, H, W) to (N, num_classes) logits; made for images of 299x299.

    `stem=cifar` makes the first convolution keep the resolution and pads wherever the net crops, so that images
    of about 32 pixels reach the first inception module at a quarter of their size.

    Raises:
        ValueError: the stem is unknown, or a size is not a positive integer.
        UserError: timm is not installed.
    """
    return from_timm("inception_v4", in_channels, num_classes, stem)


def inception_resnet_v2(in_channels: int = 3, num_classes: int = 1000, stem: str = "imagenet") -> nn.Module:
    """Inception-ResNet-v2; shapes, stem and errors as for `inception_v4`."""
    return from_timm("inception_resnet_v2", in_channels, num_classes, stem)


def from_timm(name: str, in_channels: int, num_classes: int, stem: str) -> nn.Module:
    check_choice("name", name, NAMES)
    check_stem(stem)
    check_positive(in_channels=in_channels, num_classes=num_classes)
    try:
        import timm
    except ImportError as error:
        raise UserError(f"{name} needs timm: pip install timm, or the lab with [timm]") from error
    net: nn.Module = timm.create_model(name, pretrained=False, in_chans=in_channels, num_classes=num_classes)
    if stem == "cifar":
        keep_resolution(net)
    return net


def keep_resolution(net: nn.Module) -> None:
    """Remove the stride of the first convolution, and pad in every layer."""
    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.MaxPool2d)]
    layers[0].stride = (1, 1)
    for layer in layers:
        if layer.padding in (0, (0, 0)):
            size = layer.kernel_size
            layer.padding = tuple(k // 2 for k in size) if isinstance(size, tuple) else size // 2
