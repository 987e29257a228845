"""The paper's augmentation on whole batches; the draws for each image depend only on (seed, epoch, image)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_lab.data.streams import random_integers, random_normal


def crop_and_flip(images: Tensor, padding: int, flip: bool, seed: int, epoch: int, index: Tensor) -> Tensor:
    """A random crop of the zero-padded images, mirrored for half of them (Section 4.2).

    `images` is (N, C, H, W) with the mean already subtracted, so that zero is the mean; `index` (N,)
    are the images' numbers in the dataset.
    """
    height, width = images.shape[-2:]
    batch = torch.arange(len(images), device=images.device)
    if padding:
        windows = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)
        top = random_integers(2 * padding + 1, seed, epoch, index, "crop top")
        left = random_integers(2 * padding + 1, seed, epoch, index, "crop left")
        images = windows[batch, :, top, left]
    if flip:
        mirrored = random_integers(2, seed, epoch, index, "mirror").bool()
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
    return images


def colour_shifts(components: Tensor, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Draw a shift (N, 3, 1, 1) to add to all pixels of an image: a normal multiple of each column of `components`
    (3, 3), as in the paper's reference 21."""
    draws = [random_normal(seed, epoch, index, f"colour component {number}") for number in range(3)]
    return (torch.stack(draws, 1) @ components.T)[:, :, None, None]
