"""Named random streams: every draw depends only on (stream, seed, epoch, image).

No generator has a state, so draws are the same on every device, in any order of the images, with any number of
workers or processes, and however often a run was interrupted.
"""

import hashlib

import torch
from torch import Tensor

# the constants of splitmix64 (Steele, Lea and Flood, 2014) as signed 64-bit integers
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
MIX_2 = 0x94D049BB133111EB - 2**64


def hash_of_key(stream: str, *key: int) -> bytes:
    """The sha256 of a stream's name and its key, unrelated even for neighbouring keys such as seeds."""
    return hashlib.sha256(repr((stream, *key)).encode()).digest()


def seed_of(stream: str, *key: int) -> int:
    """A seed below 2**63 for one of torch's generators."""
    return int.from_bytes(hash_of_key(stream, *key)[:8], "big") >> 1


def generator(stream: str, *key: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(stream, *key))


def random_integers(below: int, seed: int, epoch: int, index: Tensor, stream: str) -> Tensor:
    """Draw uniform integers in [0, below), one for each number in `index` (N,) int64; `below` is at most 2**31."""
    key = hash_of_key(stream, seed, epoch)
    first, second = (int.from_bytes(key[i : i + 8], "big", signed=True) for i in (0, 8))
    # the second half enters after a first mixing, so that no stream is a shifted copy of another
    return (_shift_right(_mix(_mix(index + first) ^ second), 33) * below) >> 31


def random_normal(seed: int, epoch: int, index: Tensor, stream: str) -> Tensor:
    """Draw standard normal numbers (N,), one for each number in `index`."""
    steps = 1 << 20
    uniform = (random_integers(steps, seed, epoch, index, stream) + 0.5) / steps
    return torch.erfinv(2 * uniform - 1) * 2**0.5


def _mix(x: Tensor) -> Tensor:
    x = x + GOLDEN
    x = (x ^ _shift_right(x, 30)) * MIX_1
    x = (x ^ _shift_right(x, 27)) * MIX_2
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    # torch shifts the sign in; the hash wants zeros
    return (x >> bits) & ((1 << (64 - bits)) - 1)
