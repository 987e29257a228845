"""Whether F(x) + x is easier to learn than H(x) (Section 3.1)."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnet_lab.analyses.inside_blocks import Watched, blocks_with_f, has_relu
from resnet_lab.analyses.measured import Rows, one_batch, with_batch_statistics
from resnet_lab.analyses.small_training import seed_from, trained
from resnet_lab.checks import UserError, check_positive
from resnet_lab.data import ImageData
from resnet_lab.models.blocks import BasicBlock, Block
from resnet_lab.models.layer import BN_RELU
from resnet_lab.models.resnet_cifar import PreActivationBlock

NEAR = 0.1  # of a random map


def easier(
    net: nn.Module,
    data: ImageData,
    rate: float = 0.02,
    iterations: int = 100,
    every: int = 10,
    batch_size: int = 64,
    images: int = 512,
) -> Rows:
    """How fast the first block of a net that keeps the shape learns the identity, a map near it, and a random map.

    It begins with its present weights, as relu(F(x) + x) in a residual net and as relu(F(x)) in a plain one, and
    gets what the net gives it of training images. The random map is relu(G(x)), G being two layers of random
    weights, with batch normalization; the one near the identity is relu(x + G(x) / 10).

    Args:
        rate: of SGD, with the paper's momentum and weight decay, on the mean square of what is left.
        iterations: of each training.
        every: iterations between two rows.
        batch_size: images a batch.
        images: at most so many training images, evenly spaced, not augmented.

    Returns:
        One row per iteration, from 0: `iteration`, and for the targets `identity`, `near` and `random` the mean
        square of what is left, over all images, divided by the variance of the target.

    Raises:
        UserError: the net has no block that keeps the shape, or none that ends in a ReLU.
        ValueError: a number is not positive.
    """
    check_positive(iterations=iterations, every=every, batch_size=batch_size, images=images)
    if rate <= 0:
        raise ValueError(f"rate must be a positive number, got {rate!r}")
    block, x = first_block(net, one_batch(data, "train", images)[0])
    check_relu(block)
    of_random = random_map(x.shape[1], seed_from(net))(x)
    targets = {"identity": x, "near": torch.relu(x + NEAR * of_random), "random": torch.relu(of_random)}
    found: dict[str, list[float]] = {}
    for name, target in targets.items():
        learner = copy.deepcopy(block)
        course = trained(learner, x, target, iterations * [rate], batch_size, seed_from(net))
        found[name] = [left(learner, x, target) for number in course if number % every == 0]
    return [
        {"iteration": number * every, **{name: values[number] for name, values in found.items()}}
        for number in range(iterations // every + 1)
    ]


def first_block(net: nn.Module, pixels: Tensor) -> tuple[Block, Tensor]:
    """A copy of the first block that keeps the shape, and what it gets."""
    changed = with_batch_statistics(net)
    watched = {name: Watched(block) for name, block in blocks_with_f(changed).items()}
    with torch.no_grad():
        changed(pixels)
    for name, seen in watched.items():
        if seen.x.shape == seen.f.shape:
            return copy.deepcopy(blocks_with_f(net)[name]), seen.x
    raise UserError(f"no block of this {type(net).__name__} keeps the shape; take a deeper net")


def check_relu(block: Block) -> None:
    """Refuse blocks that do not end in a ReLU, as the targets do."""
    if isinstance(block, PreActivationBlock) or not has_relu(block):
        raise UserError("easier needs blocks that end in a ReLU; take cifar_plain or cifar_resnet")


def random_map(channels: int, seed: int) -> Callable[[Tensor], Tensor]:
    """F of a plain block with random weights."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        block = BasicBlock(channels, channels, 1, "none", layer=BN_RELU)
    return torch.no_grad()(block.layers)


def left(block: nn.Module, x: Tensor, target: Tensor) -> float:
    """With batch normalization by all images, as in training."""
    with torch.no_grad():
        return float((with_batch_statistics(block)(x) - target).square().mean() / target.var())
