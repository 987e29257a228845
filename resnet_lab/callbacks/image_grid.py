"""A picture of what the net is trained on."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torchvision.utils import make_grid

from resnet_lab.checks import check_positive
from resnet_lab.data.annotations import of_one_size
from resnet_lab.data.batches import Batch

FILE = "training_images.png"
SMALLEST = 64  # pixels of an image in the picture


class ImageGrid(Callback):
    """Draw images of the first iteration as the net sees them, augmented: in TensorBoard and in a PNG file.

    The file is training_images.png in the run's directory.

    Args:
        images: limit of their number.

    Raises:
        ValueError: it is not a positive integer.
    """

    def __init__(self, images: int = 64) -> None:
        check_positive(images=images)
        self.images = images

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Batch, number: int) -> None:
        if trainer.global_step or not trainer.is_global_zero:
            return
        images = batch.images[: self.images]
        if isinstance(images, list):  # of several sizes
            images = of_one_size(images)
        grid = self._drawn(trainer.datamodule, images)  # type: ignore[attr-defined]
        Image.fromarray(grid.permute(1, 2, 0).numpy()).save(Path(trainer.default_root_dir, FILE))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("training images", grid, 1)

    def _drawn(self, data: Any, images: Tensor) -> Tensor:
        """The images (N, C, H, W) as one picture (3, H, W) uint8, normalized no more."""
        pixels = data.denormalize(images.float()).clamp(0, 1).cpu()
        larger = -(-SMALLEST // pixels.shape[-1])
        pixels = pixels.repeat_interleave(larger, -1).repeat_interleave(larger, -2)
        columns = -(-(len(pixels) ** 0.5) // 1)
        grid: Tensor = make_grid(pixels, int(columns), pad_value=1)
        return (255 * grid).round().to(torch.uint8)
