"""Sizes that crops of large images may have. Imports no torch, so that others are refused at once."""

from typing import Any

from resnet_lab.checks import check_at_least

WIDEST = 4  # times image_size; with a longer side a crop shows less than a sixteenth of the image


def check_crops(image_size: int = 224, shorter_side: Any = (256, 480), eval_shorter_side: int = 256) -> None:
    """Raise ValueError where a crop would not fit in an image, or would show next to nothing of it."""
    check_at_least(image_size, eval_shorter_side=eval_shorter_side)
    pair = list(shorter_side) if isinstance(shorter_side, list | tuple) else []
    if len(pair) != 2 or not all(type(side) is int for side in pair) or not image_size <= pair[0] <= pair[1]:
        raise ValueError(f"shorter_side must be two lengths from image_size={image_size} up, got {shorter_side!r}")
    if max(*pair, eval_shorter_side) > WIDEST * image_size:
        least, most = (round(image_size * side / 224) for side in (256, 480))
        raise ValueError(
            f"shorter_side={pair} and eval_shorter_side={eval_shorter_side} must not exceed "
            f"{WIDEST} times image_size={image_size}, or a crop shows less than a sixteenth of the image; set "
            f"data.shorter_side=[{least},{most}] data.eval_shorter_side={least}, the paper's proportions, or use "
            "data=image_folder for small images"
        )
