"""Whether auxiliary classifiers bring gradient to early layers ("Going Deeper with Convolutions", Section 5)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.analyses.measured import Rows, convolutions, one_batch, with_batch_statistics
from resnet_lab.checks import UserError, check_positive
from resnet_lab.data import ImageData
from resnet_lab.models.auxiliary import WithAuxiliary


def auxiliary(net: nn.Module, data: ImageData, part: str = "train", images: int = 256) -> Rows:
    """The gradient at the weights of each convolution: of the training loss, and of the main classifier's alone.

    Batch normalization is by the batch, as in training, without dropout.

    Args:
        part: train, val or test.
        images: at most so many of them, in one batch, evenly spaced over the part, not augmented.

    Returns:
        One row per convolution outside of the auxiliary classifiers, in the order of definition: `layer` (from 1),
        `name`, the Euclidean norms `gradient_norm` of the whole loss and `main_gradient_norm` of the main
        classifier's, and `times`, the quotient of the two, 1 in a net without auxiliary classifiers. Where both
        are zero it is 1, where the main one alone is, 1e30.

    Raises:
        UserError: the net has no convolution.
        ValueError: there is no such part, or `images` is not a positive integer.
    """
    check_positive(images=images)
    changed = with_batch_statistics(net).requires_grad_(True)
    changed.training = True  # of itself alone: the auxiliary classifiers run, dropout does not
    layers = {name: layer for name, layer in convolutions(changed).items() if not name.startswith("aux")}
    if not layers:
        raise UserError(f"{type(net).__name__} has no convolution; choose another net")
    pixels, labels = one_batch(data, part, images)
    with torch.enable_grad():
        output = changed(pixels)
        main, whole = losses(output, labels)
        weights = [layer.weight for layer in layers.values()]
        of_whole, of_main = norms(whole, weights), norms(main, weights)
    return [
        {
            "layer": number,
            "name": name,
            "gradient_norm": of_whole[number - 1],
            "main_gradient_norm": of_main[number - 1],
            "times": quotient(of_whole[number - 1], of_main[number - 1]),
        }
        for number, name in enumerate(layers, 1)
    ]


def losses(output: Tensor | WithAuxiliary, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of the main classifier, and that of all."""
    if not isinstance(output, WithAuxiliary):
        return (loss := F.cross_entropy(output, labels)), loss
    main = F.cross_entropy(output.logits, labels)
    others = [F.cross_entropy(logits, labels) for logits in output.auxiliary]
    return main, main + output.weight * torch.stack(others).sum()


def norms(loss: Tensor, weights: Sequence[Tensor]) -> list[float]:
    """Of the gradients; 0 where the loss does not depend on the weights."""
    found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return [0.0 if gradient is None else float(gradient.norm()) for gradient in found]


def quotient(whole: float, main: float) -> float:
    return whole / main if main else 1e30 if whole else 1.0
