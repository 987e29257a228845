"""What is annotated in an image beside its class: boxes, their classes, and which pixel belongs to what.

An annotation is a dict of tensors for one image, with sizes in pixels of that image:

    boxes   (m, 4) float32, the corners x1, y1, x2, y2 of each object, x2 and y2 exclusive
    labels  (m,) int64, the objects' classes from 0
    left_out  (m,) bool, objects that count neither for nor against a detector (VOC's difficult, COCO's crowds)
    mask    (H, W) uint8, where pixels are annotated: 0 for the background, 1 + class, UNKNOWN for neither
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_lab.data.streams import random_integers

Annotation = dict[str, Tensor]

BACKGROUND, UNKNOWN = 0, 255


def mirrored(image: Tensor, annotation: Annotation) -> tuple[Tensor, Annotation]:
    """The image (C, H, W) and its annotation, left to right."""
    boxes = annotation["boxes"].clone()
    boxes[:, [0, 2]] = image.shape[-1] - annotation["boxes"][:, [2, 0]]
    turned = annotation | {"boxes": boxes}
    if "mask" in annotation:
        turned["mask"] = annotation["mask"].flip(-1)
    return image.flip(-1), turned


def mirror_half(
    images: Any, annotations: list[Annotation], seed: int, epoch: int, indices: Tensor
) -> tuple[list[Tensor], list[Annotation]]:
    """Mirror each image (C, H, W) with probability 1/2, by a draw that depends only on (seed, epoch, image)."""
    chosen = random_integers(2, seed, epoch, indices, "mirror").bool().tolist()
    pairs = [
        mirrored(image, annotation) if flip else (image, annotation)
        for image, annotation, flip in zip(images, annotations, chosen, strict=True)
    ]
    return [image for image, _ in pairs], [annotation for _, annotation in pairs]


def padded(images: list[Tensor], annotations: list[Annotation]) -> tuple[Tensor, list[Annotation]]:
    """Normalized images as one tensor (n, C, H, W) of the greatest height and width, with their masks.

    Images are continued by zeros, which are the mean, to the right and below; masks by UNKNOWN.
    """
    whole = [
        annotation | {"mask": F.pad(annotation["mask"], margin, value=UNKNOWN)}
        for annotation, margin in zip(annotations, margins(images), strict=True)
    ]
    return of_one_size(images), whole


def of_one_size(images: list[Tensor]) -> Tensor:
    return torch.stack(list(map(F.pad, images, margins(images))))


def margins(images: list[Tensor]) -> list[tuple[int, int, int, int]]:
    """What each of the images (C, H, W) lacks to the left, to the right, above and below."""
    height, width = (max(image.shape[side] for image in images) for side in (1, 2))
    return [(0, width - image.shape[2], 0, height - image.shape[1]) for image in images]
