"""What a net found in images, beside what is annotated in them."""

from pathlib import Path
from typing import Any

import matplotlib
import torch
from matplotlib.colors import to_hex
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks, make_grid

from resnet_lab.data.annotations import BACKGROUND, UNKNOWN, Annotation
from resnet_lab.data.batches import Batch
from resnet_lab.runs.directory import Run

FILE = "found.png"
IMAGES = 8
COLOURS = [to_hex(colour) for colour in matplotlib.colormaps["tab10"].colors]  # type: ignore[attr-defined]


class Found(Callback):
    """Draw the first validation images at each evaluation: above as annotated, below as found.

    In TensorBoard, and as found.png in the run's directory.
    """

    def __init__(self, run: Run) -> None:
        self.path = run.directory / FILE

    def on_validation_batch_end(  # type: ignore[override]
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Batch, number: int, loader: int = 0
    ) -> None:
        if number or trainer.state.fn != "fit" or not trainer.is_global_zero or not len(batch.labels):
            return
        images, true = batch.images[:IMAGES], batch.annotations[:IMAGES]
        pixels = [trainer.datamodule.denormalize(image[None].float())[0] for image in images]  # type: ignore[attr-defined]
        picture = grid(pixels, true, module.found(images))  # type: ignore[operator]
        save(picture, self.path)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("annotated above, found below", picture, trainer.global_step)


def grid(images: list[Tensor], true: list[Annotation], found: list[Annotation]) -> Tensor:
    """One picture (3, H, W) uint8 of images (C, h, w) on the scale [0, 1]: a column for each."""
    columns = [
        torch.cat([drawn(image, {key: annotated[key] for key in of_net}), drawn(image, of_net)], 1)
        for image, annotated, of_net in zip(images, true, found, strict=True)
    ]
    height, width = (max(column.shape[axis] for column in columns) for axis in (1, 2))
    same = [
        torch.nn.functional.pad(c, (0, width - c.shape[2], 0, height - c.shape[1]), value=255) for c in columns
    ]
    picture: Tensor = make_grid(same, nrow=IMAGES, pad_value=255)
    return picture


def drawn(image: Tensor, annotation: Annotation) -> Tensor:
    """An image (C, h, w) on the scale [0, 1] with its boxes, or with its mask: (3, h, w) uint8."""
    pixels = (255 * image.clamp(0, 1)).round().to(torch.uint8).cpu().expand(3, -1, -1)
    if "mask" in annotation:
        return with_mask(pixels, annotation["mask"].cpu())
    if not len(annotation["boxes"]):
        return pixels
    labels = annotation["labels"].tolist()
    colours = [COLOURS[label % len(COLOURS)] for label in labels]
    boxed: Tensor = draw_bounding_boxes(
        pixels, annotation["boxes"].cpu(), [str(n) for n in labels], colours, width=2
    )
    return boxed


def with_mask(pixels: Tensor, mask: Tensor) -> Tensor:
    values = [value for value in torch.unique(mask).tolist() if value not in (BACKGROUND, UNKNOWN)]
    if not values:
        return pixels
    masks = torch.stack([mask == value for value in values])
    masked: Tensor = draw_segmentation_masks(
        pixels, masks, alpha=0.6, colors=[COLOURS[(v - 1) % len(COLOURS)] for v in values]
    )
    return masked


def save(picture: Tensor, path: Path) -> None:
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(path)
