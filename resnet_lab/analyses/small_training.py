"""A training of a few lines, for analyses that train nets of their own."""

import zlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOMENTUM, WEIGHT_DECAY = 0.9, 1e-4  # Section 3.4


def trained(
    net: nn.Module,
    images: Tensor,
    targets: Tensor,
    rates: Sequence[float],
    batch_size: int,
    seed: int,
) -> Iterator[int]:
    """Train the net by SGD, in place, one iteration per rate; yield how many are done, 0 first.

    Each batch is drawn at random from the images. The loss is the cross-entropy where the targets are labels (N,),
    else the mean square.
    """
    optimizer = torch.optim.SGD(net.parameters(), momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(seed)
    loss_of = F.mse_loss if targets.is_floating_point() else F.cross_entropy
    yield 0
    for number, rate in enumerate(rates, 1):
        chosen = torch.randperm(len(images), generator=generator)[:batch_size]
        optimizer.param_groups[0]["lr"] = rate
        net.train().requires_grad_(True)
        with torch.enable_grad():
            optimizer.zero_grad()
            loss_of(net(images[chosen]), targets[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield number


def multistep(rate: float, iterations: int) -> list[float]:
    """The rate of each iteration: a tenth from half on, a hundredth from three quarters on (Section 4.2)."""
    return [rate * 0.1 ** ((2 * i >= iterations) + (4 * i >= 3 * iterations)) for i in range(iterations)]


def seed_from(net: nn.Module) -> int:
    """One that nets of other weights do not share, so that what is drawn for each of them is independent."""
    seed = 0
    for weights in net.parameters():
        seed = zlib.crc32(weights.detach().cpu().contiguous().numpy().tobytes(), seed)
    return seed
