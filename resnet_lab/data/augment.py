"""The paper's augmentation on whole batches; each image's draw is a function of (seed, epoch, image)."""

import torch
from torch import Tensor
from torch.nn import functional as F

# The constants of splitmix64 (Steele, Lea and Flood, 2014) as signed 64-bit integers.
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
MIX_2 = 0x94D049BB133111EB - 2**64


def crop_and_flip(images: Tensor, padding: int, flip: bool, seed: int, epoch: int, index: Tensor) -> Tensor:
    """A random crop of the zero-padded images, mirrored for half of them (Section 4.2).

    `images` is (N, C, H, W) with the mean already subtracted, so that zero is the mean; `index` (N,)
    are the images' numbers in the dataset.
    """
    height, width = images.shape[-2:]
    batch = torch.arange(len(images), device=images.device)
    if padding:
        windows = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
        top = random_integers(2 * padding + 1, seed, epoch, index, draw=0)
        left = random_integers(2 * padding + 1, seed, epoch, index, draw=1)
        images = windows[batch, :, top, left]
    if flip:
        mirrored = random_integers(2, seed, epoch, index, draw=2).bool()
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    return images


def colour_shifts(components: Tensor, seed: int, epoch: int, index: Tensor) -> Tensor:
    """(N, 3, 1, 1): a normal multiple of each column of `components` (3, 3), to be added to all pixels of an image
    (the paper's reference 21)."""
    draws = [random_normal(seed, epoch, index, draw) for draw in (4, 5, 6)]
    return (torch.stack(draws, 1) @ components.T)[:, :, None, None]


def random_normal(seed: int, epoch: int, index: Tensor, draw: int) -> Tensor:
    """Standard normal numbers (N,), one for each number in `index`."""
    steps = 1 << 20
    uniform = (random_integers(steps, seed, epoch, index, draw) + 0.5) / steps
    return torch.erfinv(2 * uniform - 1) * 2**0.5


def random_integers(below: int, seed: int, epoch: int, index: Tensor, draw: int) -> Tensor:
    """Uniform integers in [0, below), one for each number in `index` (N,) int64.

    A counter-based hash in place of a generator with state: the same on every device, whatever the
    order, the workers or the processes.
    """
    key = torch.tensor(seed, dtype=torch.int64, device=index.device)
    for word in (epoch, draw):
        key = _mix(key + word)
    return (_shift_right(_mix(key + index), 33) * below) >> 31


def _mix(x: Tensor) -> Tensor:
    x = x + GOLDEN
    x = (x ^ _shift_right(x, 30)) * MIX_1
    x = (x ^ _shift_right(x, 27)) * MIX_2
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    # torch shifts the sign in; the hash wants zeros
    return (x >> bits) & ((1 << (64 - bits)) - 1)
