"""Folders of small images, one per class, decoded once and kept in memory."""

import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as T

from resnet_lab.checks import UserError, check_positive
from resnet_lab.data.batches import Images
from resnet_lab.data.decoding import check_decoder, decode, reason
from resnet_lab.data.imagenet import EXTENSIONS
from resnet_lab.data.module import ImagesInMemory, log
from resnet_lab.data.pixels import Source, load_pixels, read
from resnet_lab.text import one_line

MOST_BYTES = 1 << 32  # bytes of pixels in memory
MODES: dict[int, Literal["GRAY", "RGB"]] = {1: "GRAY", 3: "RGB"}


class ImageFolder(ImagesInMemory):
    """Images in `root/train/<class>/` and `root/test/<class>/`, or `root/val/<class>/` where there is no test/.

    PNG, JPEG, WebP, GIF (not animated) and AVIF; transparency is dropped, more than 8 bits per colour are rounded
    to 8, and images are turned according to their EXIF data. Hidden files and folders are skipped; anything else
    that is not an image is refused by name. The pixels are kept in the cache folder, tied to the files by a
    checksum.

    Args:
        image_size: height and width in pixels to resize all images to; None for the files' own size, which must be
            square and the same for all.
        in_channels: 1 for grey, 3 for colour; None for that of the first image, in which case a colour image among
            grey ones is refused.
        num_classes: number of classes required; None for the number of folders.
        max_pixels: limit per image; an image whose header claims more is refused without decoding it.
        settings: those of `ImagesInMemory`.

    Raises:
        ValueError: a setting is out of its range.
        UserError: folders are missing or empty, the classes in both differ, an image cannot be read or has another
            size, or there are too many images to keep in memory.
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
        self.num_classes = num_classes or len(classes_of(self.root / "train"))
        if image_size is None or in_channels is None:
            channels, size = self._first_image()
            image_size, in_channels = image_size or size, in_channels or channels
        self.image_size, self.in_channels = image_size, in_channels

    def load(self) -> tuple[Images, Images]:
        check_decoder()
        parts = ("train", folder_of_tests(self.root))
        classes, others = (classes_of(self.root / part) for part in parts)
        self._check_classes(parts, classes, others)
        (train, train_labels), (test, test_labels) = (self._files(part, classes) for part in parts)
        pixels = load_pixels(self._source(train + test))
        return Images(pixels[: len(train)], train_labels), Images(pixels[len(train) :], test_labels)

    def _files(self, part: str, classes: list[str]) -> tuple[list[str], Tensor]:
        """The images of a part by their names under root, and their labels."""
        files = [files_of(self.root / part / name) for name in classes]
        names = [f"{part}/{name}/{file}" for name, found in zip(classes, files, strict=True) for file in found]
        counts = torch.tensor([len(found) for found in files])
        return names, torch.arange(len(classes)).repeat_interleave(counts)

    def _first_image(self) -> tuple[int, int]:
        """The channels of the first image, 1 or 3, and its side in pixels."""
        check_decoder()
        folder = self.root / "train"
        folder /= classes_of(folder)[0]
        path = folder / files_of(folder)[0]
        channels, height, width = self._decoded(path, read(path), "UNCHANGED").shape
        if height != width and not self.resizes:
            raise UserError(
                f"{one_line(path)} is {width} pixels wide and {height} high, and images must be square; set "
                f"data.image_size={max(height, width)} to resize all of them to {max(height, width)} by "
                f"{max(height, width)}"
            )
        return 1 if channels <= 2 else 3, height

    def _source(self, names: list[str]) -> Source:
        size = len(names) * self.in_channels * self.image_size**2
        if size > MOST_BYTES:
            raise UserError(
                f"{len(names)} images of {self.in_channels}x{self.image_size}x{self.image_size} take "
                f"{size / 1e9:.1f} GB, more than the {MOST_BYTES / 1e9:.1f} GB allowed in memory; set a smaller "
                "data.image_size, or use data=imagenet, which decodes images as they are needed"
            )
        how = f"resizes={self.resizes} converts={self.converts}"
        return Source(self.root, names, self.shape, how, self._pixels)

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
                f"{one_line(path)} cannot be read ({one_line(reason(error))}); repair or remove it"
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
    """The entries of a folder in the order of their names, without hidden ones.

    Raises:
        UserError: the folder cannot be read.
    """
    try:
        return sorted((e for e in os.scandir(folder) if e.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{one_line(folder)} cannot be read ({error.strerror}); repair or remove it") from error


def classes_of(folder: Path) -> list[str]:
    """The names of the classes, in order.

    Raises:
        UserError: there are none, or something beside them.
    """
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
    """The names of a class's images, in order.

    Raises:
        UserError: there are none, or something beside them.
    """
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
    """The name of the folder of test images, `test` or `val`.

    Raises:
        UserError: there is neither.
    """
    found = [name for name in ("test", "val") if (root / name).is_dir()]
    if not found:
        raise UserError(f"{root} has neither test/ nor val/; put the test images there, one folder per class")
    if len(found) == 2:
        log.warning("%s/val is not used, because there is test/; data.holdout validates on training images", root)
    return found[0]
