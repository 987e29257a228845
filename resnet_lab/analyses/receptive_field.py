"""How much of the image each convolution sees ("Very Deep Convolutional Networks", Section 2.3)."""

import torch
from torch import Tensor, nn

from resnet_lab.analyses.measured import Rows, convolutions, evaluated
from resnet_lab.checks import UserError, check_positive
from resnet_lab.data import ImageData


def receptive_field(net: nn.Module, data: ImageData, size: int = 33, images: int = 8) -> Rows:
    """The receptive field of each convolution, as the support of a gradient at the input.

    It is the gradient of the output at the middle position, the sum over its channels, on noise of that size, with
    batch normalization by the running statistics, so that images do not mix. Where a ReLU cuts a way off in one
    image, it is open in another: the support is that of any of them.

    Args:
        size: height and width of the noise in pixels; a field that is larger shows as this.
        images: noise images.

    Returns:
        One row per convolution in the order of computation, those of shortcuts left out: `layer` (from 1), `name`,
        `field`, the height of the support in pixels, `parameters` of the layer and `parameters_so_far`.

    Raises:
        UserError: the net has no convolution.
        ValueError: a number is not a positive integer.
    """
    check_positive(size=size, images=images)
    noise = torch.randn(images, data.in_channels, size, size, generator=torch.Generator().manual_seed(0)).double()
    watched = evaluated(net).double()
    outputs: dict[str, Tensor] = {}
    for name, layer in convolutions(watched).items():
        layer.register_forward_hook(lambda _, inputs, output, name=name: outputs.update({name: output}))
    with torch.enable_grad():
        try:
            watched(noise.requires_grad_(True))
        except RuntimeError as error:
            small = f"{type(net).__name__} does not take {size}x{size} pixels"
            raise UserError(f"{small}; set analysis.size={2 * size - 1} or more") from error
        if not outputs:
            raise UserError(f"{type(net).__name__} has no convolution; choose another net")
        fields = {name: support(output, noise) for name, output in outputs.items()}
    found = convolutions(net)
    counts = [sum(p.numel() for p in found[name].parameters()) for name in fields]
    return [
        {
            "layer": number,
            "name": name,
            "field": field,
            "parameters": counts[number - 1],
            "parameters_so_far": sum(counts[:number]),
        }
        for number, (name, field) in enumerate(fields.items(), 1)
    ]


def support(output: Tensor, noise: Tensor) -> int:
    """The height of what the middle of the output depends on."""
    middle = output[:, :, output.shape[2] // 2, output.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(middle, noise, retain_graph=True)
    rows = gradient.abs().sum((0, 1, 3)).nonzero().flatten()
    return int(rows[-1] - rows[0]) + 1 if len(rows) else 0
