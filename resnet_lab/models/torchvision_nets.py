"""Nets from torchvision that the paper is compared with; `stem=cifar` fits them to images of about 32 pixels.

Their state dict keys and their initialization are torchvision's; only VGG's first linear layer has torch's own
initialization where the stem changes its size.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models.vgg import cfgs, make_layers

from resnet_lab.checks import check_choice, check_positive
from resnet_lab.families import NORMS
from resnet_lab.models.auxiliary import WithAuxiliary
from resnet_lab.models.initialization import he_initialization
from resnet_lab.models.stems import check_stem

VGG_CONFIGURATIONS = {11: "A", 13: "B", 16: "D", 19: "E"}
WIDTH, LINEAR = 64, 4096  # of VGG's first and of its linear layers


def vgg(
    depth: int,
    batch_norm: bool = False,
    in_channels: int = 3,
    num_classes: int = 1000,
    stem: str = "imagenet",
    width: int = 64,
) -> nn.Module:
    """VGG-11, 13, 16 or 19 (Simonyan and Zisserman, 2014), (N, in_channels, H, W) to (N, num_classes) logits.

    `stem=cifar` leaves the convolutions as they are, rounds odd sizes up where it pools, and averages to 1x1
    instead of 7x7 before the linear layers. `width` is the number of channels of the first convolution, 64 in the
    original; all other layers are wider or narrower with it.

    Raises:
        ValueError: the depth or the stem is unknown, or a size is not a positive integer.
    """
    check_positive(depth=depth)
    if depth not in VGG_CONFIGURATIONS:
        raise ValueError(f"depth must be one of {', '.join(map(str, VGG_CONFIGURATIONS))}, got {depth!r}")
    check_switch("batch_norm", batch_norm)
    check_stem_and_sizes(stem, in_channels, num_classes)
    check_positive(width=width)
    net: Any = getattr(models, f"vgg{depth}{'_bn' if batch_norm else ''}")(num_classes=num_classes)
    if width != WIDTH:
        net = of_width(width, depth, batch_norm, num_classes)
    net.features[0] = nn.Conv2d(in_channels, width, kernel_size=3, padding=1)
    # torchvision's initialization
    nn.init.kaiming_normal_(net.features[0].weight, mode="fan_out", nonlinearity="relu")
    nn.init.zeros_(net.features[0].bias)
    if stem == "cifar":
        for layer in net.features:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True
        net.avgpool = nn.AdaptiveAvgPool2d(1)
        net.classifier[0] = nn.Linear(8 * width, LINEAR * width // WIDTH)
    return net  # type: ignore[no-any-return]


def of_width(width: int, depth: int, batch_norm: bool, num_classes: int) -> Any:
    """torchvision's VGG with `width` / 64 as many channels in all layers, initialized alike."""
    layers = [each if each == "M" else each * width // WIDTH for each in cfgs[VGG_CONFIGURATIONS[depth]]]
    net: Any = models.VGG(make_layers(layers, batch_norm), num_classes)
    hidden = LINEAR * width // WIDTH
    sizes = {0: (8 * width * 49, hidden), 3: (hidden, hidden), 6: (hidden, num_classes)}
    for place, (inputs, outputs) in sizes.items():
        net.classifier[place] = nn.Linear(inputs, outputs)
        nn.init.normal_(net.classifier[place].weight, 0, 0.01)
        nn.init.zeros_(net.classifier[place].bias)
    return net


def alexnet(in_channels: int = 3, num_classes: int = 1000, stem: str = "imagenet") -> nn.Module:
    """AlexNet (Krizhevsky, 2014), from (N, in_channels, H, W) to (N, num_classes) logits.

    `stem=cifar` puts a 3x3 convolution in place of the 11x11 with stride 4, and averages to 1x1 instead of 6x6.

    Raises:
        ValueError: the stem is unknown, or a size is not a positive integer.
    """
    check_stem_and_sizes(stem, in_channels, num_classes)
    net: Any = models.alexnet(num_classes=num_classes)
    if stem == "imagenet":
        net.features[0] = nn.Conv2d(in_channels, 64, kernel_size=11, stride=4, padding=2)
    else:
        net.features[0] = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1)
        net.avgpool = nn.AdaptiveAvgPool2d(1)
        net.classifier[1] = nn.Linear(256, 4096)
    return net  # type: ignore[no-any-return]


class GoogLeNet(models.GoogLeNet):  # type: ignore[misc]
    """GoogLeNet that in training returns the logits of its auxiliary classifiers as well."""

    auxiliary_weight: float

    def eager_outputs(self, x: Tensor, aux2: Tensor | None, aux1: Tensor | None) -> Tensor | WithAuxiliary:
        if aux1 is None or aux2 is None:
            return x
        return WithAuxiliary(x, (aux1, aux2), self.auxiliary_weight)


def googlenet(
    auxiliary: bool = True,
    auxiliary_weight: float = 0.3,
    in_channels: int = 3,
    num_classes: int = 1000,
    stem: str = "imagenet",
    norm: str = "batch",
) -> nn.Module:
    """GoogLeNet (Szegedy et al., 2014) with batch normalization; shapes as for `vgg`.

    In training, two auxiliary classifiers add `auxiliary_weight` times their losses. torchvision's net has 3x3
    convolutions where the original has 5x5. `stem=cifar` is a 3x3 convolution without the first pooling. With
    `norm=none` the convolutions have biases instead, as in the original, and all weights are He's.

    Raises:
        ValueError: the stem or the norm is unknown, a size is not a positive integer, or the weight is negative.
    """
    check_switch("auxiliary", auxiliary)
    check_choice("norm", norm, NORMS)
    check_stem_and_sizes(stem, in_channels, num_classes)
    if isinstance(auxiliary_weight, bool) or not isinstance(auxiliary_weight, int | float) or auxiliary_weight < 0:
        raise ValueError(f"auxiliary_weight must be a number, 0 or more, got {auxiliary_weight!r}")
    net = GoogLeNet(num_classes=num_classes, aux_logits=auxiliary, init_weights=True)
    net.auxiliary_weight = auxiliary_weight
    first = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    if stem == "cifar":
        first = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1, bias=False)
        net.maxpool1 = nn.Identity()
    nn.init.trunc_normal_(first.weight, std=0.01, a=-2, b=2)
    net.conv1.conv = first
    if norm == "none":
        without_normalization(net)
    return net  # type: ignore[no-any-return]


def without_normalization(net: nn.Module) -> None:
    """Replace the batch normalization behind each convolution by a bias, and draw He's weights."""
    for module in list(net.modules()):
        if isinstance(getattr(module, "bn", None), nn.BatchNorm2d):
            old: Any = module.conv
            module.conv = nn.Conv2d(
                old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=True
            )
            module.bn = nn.Identity()
    he_initialization(net)


def check_stem_and_sizes(stem: str, in_channels: int, num_classes: int) -> None:
    check_stem(stem)
    check_positive(in_channels=in_channels, num_classes=num_classes)


def check_switch(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")


class AtLeast(nn.Module):
    """Enlarge inputs that are smaller than a kernel, as the net's own pooling does."""

    def __init__(self, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        sizes = [max(length, least) for length, least in zip(x.shape[2:], self.kernel, strict=True)]
        return x if list(x.shape[2:]) == sizes else F.adaptive_avg_pool2d(x, (sizes[0], sizes[1]))


def averages(net: Any) -> bool:
    """Whether the net has global average pooling before its linear layers, as with `stem=cifar`."""
    return net.avgpool.output_size in (1, (1, 1))


def fully_convolutional(net: nn.Module) -> nn.Module:
    """Convert a net to accept images of any size (Section 3.4): VGG's and AlexNet's linear layers become
    convolutions, and the class scores are averaged over their positions. Nets with global average pooling accept
    any size already and are returned as they are.
    """
    if not isinstance(net, models.VGG | models.AlexNet) or averages(net):
        return net
    size = net.avgpool.output_size
    kernel = size if isinstance(size, tuple) else (size, size)
    linear = [layer for layer in net.classifier if not isinstance(layer, nn.Dropout)]
    layers: list[nn.Module] = [AtLeast(kernel)]
    for layer in linear:
        if isinstance(layer, nn.Linear):
            channels = layer.in_features // (kernel[0] * kernel[1])
            convolution = nn.Conv2d(channels, layer.out_features, kernel)
            convolution.load_state_dict({"weight": layer.weight.view_as(convolution.weight), "bias": layer.bias})
            layer, kernel = convolution, (1, 1)
        layers.append(layer)
    whole = nn.Sequential(net.features, *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return whole.to(next(net.parameters()).device)
