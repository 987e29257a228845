"""Bytes of image files to pixels, with limits for files of unknown origin."""

import contextlib
import importlib
import io
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resnet_lab.checks import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF")
ORIENTATION = 0x0112  # among EXIF's tags
LONGEST = 16  # times as long as wide; only the middle of longer images is used


def read_image(path: str, max_pixels: int) -> Tensor:
    """Read an image file into (3, H, W) uint8.

    Raises:
        OSError, RuntimeError, ValueError: the file cannot be read, or `decode` refuses it.
    """
    return middle(decode(np.fromfile(path, np.uint8), max_pixels))


def decode(content: Any, max_pixels: int, mode: Literal["RGB", "GRAY", "UNCHANGED"] = "RGB") -> Tensor:
    """Decode the bytes of a file (numpy, uint8) into (C, H, W) uint8; with mode UNCHANGED, C is the file's own.

    Raises:
        RuntimeError, ValueError: it is not one whole image of 8 bits per colour, or has too many pixels.
    """
    from torchcodec.decoders import decode_image  # type: ignore[attr-defined]  # it must fit torch's version

    if not content.size:
        raise ValueError("the file is empty")
    width, height = still_size(content)
    if width * height > max_pixels:
        raise ValueError(f"{width}x{height} is more than data.max_pixels={max_pixels}")
    image: Tensor = decode_image(torch.from_numpy(content), mode=mode)
    if image.ndim != 3 or image.dtype != torch.uint8:
        raise ValueError(f"not one image of 8 bits per colour: {tuple(image.shape)} {image.dtype}")
    return image


def still_size(content: Any) -> tuple[int, int]:
    """Read width and height in pixels from the header alone; `content` is a path or (N,) bytes.

    Raises:
        ValueError: the format is unknown, or the image is animated, so that all its pictures would be decoded.
    """
    try:
        with opened(content) as image:
            # of an MPO, a JPEG with previews, the decoder reads the first picture alone
            if image.format not in ("PNG", "MPO") and getattr(image, "is_animated", False):
                raise ValueError("several pictures in one file")
            return image.size
    except OSError as error:
        raise ValueError(f"not a whole image of {', '.join(FORMATS)}") from error


def orientation(content: Any) -> int:
    """EXIF's number for how an image (N,) of bytes is to be shown; 1 for as it is stored."""
    # Pillow raises whatever broken EXIF data make it
    with contextlib.suppress(Exception), opened(content) as image:
        for name in ("xmp", "XML:com.adobe.xmp"):  # where Pillow would look next, and the decoder does not
            image.info.pop(name, None)
        return int(image.getexif().get(ORIENTATION, 1))
    return 1


@contextlib.contextmanager
def opened(content: Any) -> Iterator[Image.Image]:
    """Pillow's view of a path or of the bytes of a file, without its limit of pixels; ours is a setting."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    file = content if isinstance(content, Path) else io.BytesIO(content)
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(file, formats=FORMATS) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def middle(image: Tensor) -> Tensor:
    """Cut out the middle of an image so long that resizing it would take all memory; return others as they are."""
    height, width = image.shape[1:]
    longest = LONGEST * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return image[:, top : top + longest, left : left + longest]


def reason(error: Exception) -> str:
    """The first line of a decoder's error, without the place in the library's source."""
    return re.sub(r"^\w+, \S+:\d+, ", "", (str(error).splitlines() or [type(error).__name__])[0])


def check_decoder() -> None:
    try:
        importlib.import_module("torchcodec.decoders")
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"torchcodec, which decodes the images, cannot be used ({str(error).splitlines()[0]}); install the "
            f"version that goes with torch {torch.__version__}"
        ) from error
