"""Augmentation of single images by torchvision's policies; what is drawn depends only on (seed, epoch, image)."""

import torch
from torch import Tensor
from torchvision.transforms import v2

from resnet_lab.checks import check_choice
from resnet_lab.data.streams import seed_of

POLICIES = {"rand_augment": v2.RandAugment, "trivial_augment": v2.TrivialAugmentWide}


class Policy:
    """torchvision's RandAugment or TrivialAugment, with its own settings.

    Raises:
        ValueError: there is no such policy.
    """

    def __init__(self, name: str, seed: int) -> None:
        check_choice("policy", name, POLICIES)
        self.transform, self.seed = POLICIES[name](), seed

    def __call__(self, pixels: Tensor, epoch: int, indices: Tensor) -> Tensor:
        """Augment images (N, C, H, W) uint8, given their numbers in the dataset (N,)."""
        augmented = []
        with torch.random.fork_rng(devices=[]):  # which torchvision draws from
            for image, index in zip(pixels, indices.tolist(), strict=True):
                torch.default_generator.manual_seed(seed_of("policy", self.seed, epoch, index))
                augmented.append(self.transform(image))
        return torch.stack(augmented)
