"""Mixing of training images and their targets."""

import torch
from torch import Tensor
from torchvision.transforms import v2

from resnet_lab.data.batches import Batch
from resnet_lab.data.streams import seed_of


class Mixup:
    """torchvision's MixUp of each image with the one before it in its batch, all by one factor.

    The factor depends only on (seed, epoch, first image of the batch); with several processes, which mix their
    own images, on the number of processes, too.
    """

    def __init__(self, alpha: float, num_classes: int, seed: int) -> None:
        self.mix, self.seed = v2.MixUp(alpha=alpha, num_classes=num_classes), seed

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mixed images (N, C, H, W) and targets (N, classes)."""
        first = int(batch.indices[0]) if batch.first is None else batch.first
        with torch.random.fork_rng(devices=[]):  # which torchvision draws from
            torch.default_generator.manual_seed(seed_of("mixup", self.seed, batch.epoch, first))
            images, targets = self.mix(batch.images, batch.labels)
        return images, targets
