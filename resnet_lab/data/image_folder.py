"""Folders of small images, one per class, decoded once and kept in memory."""

import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from resnet_lab.checks import UserError, check_positive
from resnet_lab.data.batches import Images
from resnet_lab.data.imagenet import EXTENSIONS, check_decoder, decode, reason
from resnet_lab.data.module import ImagesInMemory, log
from resnet_lab.data.pixels import Source, load_pixels, read
from resnet_lab.text import one_line

MOST = 1 << 32  # bytes of pixels in memory
MODES: dict[int, Literal["GRAY", "RGB"]] = {1: "GRAY", 3: "RGB"}


class ImageFolder(ImagesInMemory):
    """Images in `root/train/<class>/` and `root/test/<class>/`, or `root/val/<class>/` where there is no test/.

    PNG, JPEG, WebP, GIF (not animated) and AVIF, 8 bits per colour; transparency is dropped, more bits are rounded
    to 8, and images are turned as their EXIF data say. Hidden files and folders are left out; whatever else is not
    an image is refused by name. The pixels are kept in the cache folder, bound to the files by a checksum.

    Args:
        image_size: resize all images to so many pixels of height and of width; None for the files' own size, which
            must be one for all, and square.
        in_channels: 1 for grey, 3 for colour; None for that of the first image, and a colour image among grey ones
            is refused.
        num_classes: how many there must be; None for as many as there are folders.
        max_pixels: of one image; one whose header says more is not decoded, and is refused.
        settings: those of images in memory.

    Raises:
        ValueError: a setting is out of its range.
        UserError: folders are missing or empty, classes are not the same in both, an image cannot be read or is of
            another size, or there are too many to keep in memory.
    """

    def __init__(
        self,
        image_size: int | None = None,
        in_channels: int | None = None,
        num_classes: int | None = None,
        max_pixels: int = 100_000_000,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        check_positive(max_pixels=max_pixels)
        self.max_pixels = max_pixels
        if image_size is not None:
            check_positive(image_size=image_size)
        if num_classes is not None:
            check_positive(num_classes=num_classes)
        if in_channels not in (None, *MODES):
            raise ValueError(
                f"in_channels must be 1 (grey), 3 (colour) or null (as the files), got {in_channels!r}"
            )
        self.resizes, self.converts = image_size is not None, in_channels is not None
        self.num_classes = num_classes or len(class_folders(self.root / "train"))
        if image_size is None or in_channels is None:
            channels, size = self._first_image()
            image_size, in_channels = image_size or size, in_channels or channels
        self.image_size, self.in_channels = image_size, in_channels

    def load(self) -> tuple[Images, Images]:
        check_decoder()
        parts = ("train", folder_of_tests(self.root))
        classes = [class_folders(self.root / part) for part in parts]
        self._check_classes(parts, *classes)
        names = [
            [[f"{part}/{name}/{file}" for file in files_of(self.root / part / name)] for name in classes[0]]
            for part in parts
        ]
        labels = [torch.tensor([k for k, files in enumerate(n) for _ in files]) for n in names]
        pixels = load_pixels(self._source([file for part in names for files in part for file in files]))
        count = len(labels[0])
        return Images(pixels[:count], labels[0]), Images(pixels[count:], labels[1])

    def _first_image(self) -> tuple[int, int]:
        """Its channels, 1 or 3, and its side in pixels."""
        check_decoder()
        folder = self.root / "train"
        path = folder / (name := class_folders(folder)[0]) / files_of(folder / name)[0]
        channels, height, width = self._decoded(path, read(path), "UNCHANGED").shape
        if height != width and not self.resizes:
            raise UserError(
                f"{one_line(path)} is {width} pixels wide and {height} high, and images must be square; set "
                f"data.image_size={max(height, width)} to resize all of them to {max(height, width)} by "
                f"{max(height, width)}"
            )
        return 1 if channels <= 2 else 3, height

    def _source(self, names: list[str]) -> Source:
        shape = (self.in_channels, self.image_size, self.image_size)
        size = len(names) * self.in_channels * self.image_size**2
        if size > MOST:
            raise UserError(
                f"{len(names)} images of {self.in_channels}x{self.image_size}x{self.image_size} take "
                f"{size / 1e9:.1f} GB, more than {MOST / 1e9:.1f} GB to be kept in memory; set a smaller "
                "data.image_size, or take data=imagenet, which decodes images as they are needed"
            )
        how = f"resizes={self.resizes} converts={self.converts}"
        return Source(self.root, names, shape, how, self._pixels)

    def _pixels(self, path: Path, content: Any) -> Tensor:
        if self.in_channels == 1 and not self.converts:
            image = self._decoded(path, content, "UNCHANGED")
            if len(image) > 2:
                raise UserError(
                    f"{one_line(path)} is in colour, where the first image is grey; set data.in_channels=3, or "
                    "data.in_channels=1 to take all of them in grey"
                )
            image = image[:1]  # without transparency
        else:
            image = self._decoded(path, content, MODES[self.in_channels])
        size = [self.image_size, self.image_size]
        if self.resizes:
            resized: Tensor = T.resize(image, size, antialias=True)
            return resized
        if list(image.shape[1:]) != size:
            raise UserError(
                f"{one_line(path)} is {image.shape[2]} pixels wide and {image.shape[1]} high, the first image "
                f"{size[0]} and {size[0]}; set data.image_size={size[0]} to resize all of them, or remove it"
            )
        return image

    def _decoded(self, path: Path, content: Any, mode: Literal["GRAY", "RGB", "UNCHANGED"]) -> Tensor:
        try:
            return decode(content, self.max_pixels, mode)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{one_line(path)} cannot be read ({one_line(reason(error))}); mend or remove it"
            ) from error

    def _check_classes(self, parts: tuple[str, str], classes: list[str], others: list[str]) -> None:
        if different := sorted(set(classes) ^ set(others)):
            where, other = parts if different[0] in classes else parts[::-1]
            raise UserError(
                f"{one_line(self.root / where / different[0])} is a class that {self.root / other} does not have; "
                f"put images of it there, or remove it"
            )
        if len(classes) != self.num_classes:
            raise UserError(
                f"data.num_classes={self.num_classes}, but {self.root}/train has {len(classes)} folders; set "
                f"data.num_classes={len(classes)} or null"
            )


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name, without hidden files."""
    try:
        return sorted((e for e in os.scandir(folder) if e.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{one_line(folder)} cannot be read ({error.strerror}); mend or remove it") from error


def class_folders(folder: Path) -> list[str]:
    """The names of the classes, in order."""
    found = entries(folder) if folder.is_dir() else []
    if not found:
        raise UserError(
            f"{folder} has no folders of images; put them there, one folder per class, or set data.root to the "
            "folder that has train/ and test/ (or val/)"
        )
    if loose := next((entry.path for entry in found if not os.path.isdir(entry)), None):
        raise UserError(f"{one_line(loose)} is not a folder, as classes are; move it away, or into its class")
    return [entry.name for entry in found]


def files_of(folder: Path) -> list[str]:
    """The names of a class's images, in order."""
    found = entries(folder)
    if not found:
        raise UserError(f"{one_line(folder)} is empty; put images of that class there, or remove it everywhere")
    for entry in found:
        if os.path.isdir(entry):
            raise UserError(f"{one_line(entry.path)} is a folder in a class; move its images up, or remove it")
        if not entry.name.lower().endswith(EXTENSIONS):
            raise UserError(
                f"{one_line(entry.path)} does not end in {', '.join(EXTENSIONS)}; convert it to one of these, or "
                "remove it"
            )
    return [entry.name for entry in found]


def folder_of_tests(root: Path) -> str:
    """The name of the folder of test images."""
    found = [name for name in ("test", "val") if (root / name).is_dir()]
    if not found:
        raise UserError(f"{root} has neither test/ nor val/; put the test images there, one folder per class")
    if len(found) == 2:
        log.warning("%s/val is left out, as there is test/; data.holdout validates on training images", root)
    return found[0]
