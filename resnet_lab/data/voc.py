"""PASCAL VOC, boxes or masks, in the folders that torchvision unpacks its archives to."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from torchvision.datasets.voc import DATASET_YEAR_DICT

from resnet_lab.checks import UserError, hint
from resnet_lab.data.annotated import SIZE_UNKNOWN, Annotated, AnnotatedImages
from resnet_lab.data.annotations import padded
from resnet_lab.data.batches import Batch
from resnet_lab.data.decoding import still_size
from resnet_lab.data.objects import Box, Thing, area, clipped, is_inside
from resnet_lab.splits import TRAIN_VOC, check_voc
from resnet_lab.text import one_line

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
NUMBER = {name: number for number, name in enumerate(CLASSES)}
IMAGE_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
LARGEST_XML = 1 << 20  # bytes; VOC's have a few thousand
LONGEST = 1 << 31  # pixels that a number may say
LISTS = {"boxes": "Main", "masks": "Segmentation"}


class VOC(AnnotatedImages):
    """PASCAL VOC 2007 to 2012 (Everingham et al., 2010): 20 classes of objects, with boxes or with masks.

    Under `root` are the folders of the archives, VOCdevkit/VOC2007 and so on. A part is a year and the name of one
    of its lists of images, in ImageSets/Main for boxes and in ImageSets/Segmentation for masks. Boxes in the files
    count pixels from 1 and include the last; here they count from 0, and x2 and y2 are exclusive. Difficult
    objects are left out. Masks have 1 + class for each pixel, 0 for the background, and 255 for the outlines,
    which are neither; images have no boxes then, and those of a batch are continued to one size.

    Args:
        train, test: parts to train and to test on, such as 2007-trainval.
        annotations: boxes, for detection, or masks, for segmentation.
        settings: those of `AnnotatedImages`.

    Raises:
        ValueError: a setting is out of its range.
        UserError: a folder, an image or its annotation is missing, or an annotation is not as VOC's are.
    """

    classes = CLASSES
    num_classes = len(CLASSES)
    tasks: tuple[str, ...] = ("detection", "segmentation")

    def __init__(
        self,
        train: Sequence[str] = TRAIN_VOC,
        test: Sequence[str] = ("2007-test",),
        annotations: str = "boxes",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        check_voc(train, test, annotations)
        self.parts, self.annotations = (list(train), list(test)), annotations
        self.tasks = ("detection",) if annotations == "boxes" else ("segmentation",)

    def read(self) -> tuple[list[Annotated], list[Annotated]]:
        train, test = ([(part, *self._listed(part)) for part in parts] for parts in self.parts)
        check_once(train + test)
        read = read_boxes if self.annotations == "boxes" else read_masks
        return (
            [read(folder, name) for _, folder, names in train for name in names],
            [read(folder, name) for _, folder, names in test for name in names],
        )

    def ready(self, batch: Batch, training: bool = False) -> Batch:
        batch = super().ready(batch, training)
        if self.annotations == "boxes" or not len(batch.labels):
            return batch
        images, annotations = padded(batch.images, batch.annotations)
        return batch._replace(images=images, annotations=annotations)

    def _listed(self, part: str) -> tuple[Path, list[str]]:
        """The folder of a part, such as VOCdevkit/VOC2007, and the names of its images."""
        year, split = part.split("-")
        archive = DATASET_YEAR_DICT["2007-test" if part == "2007-test" else year]
        folder = self.root / archive["base_dir"]
        path = folder / "ImageSets" / LISTS[self.annotations] / f"{split}.txt"
        if not path.is_file():
            raise UserError(
                f"{path} is not there; unpack {archive['filename']} in {self.root}, so that it has "
                f"{archive['base_dir']}, or set data.root to the folder that has it"
            )
        names = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
        wrong = next((name for name in names if not IMAGE_NAME.fullmatch(name)), None)
        if wrong or not names:
            raise UserError(
                f"{path} must have the name of an image in each line, got {one_line(repr(wrong or ''))}"
            )
        return folder, names


def check_once(parts: list[tuple[str, Path, list[str]]]) -> None:
    """Refuse an image that is in two parts, or twice in one; the years from 2008 on share images."""
    seen: dict[str, str] = {}
    for part, _, names in parts:
        for name in names:
            if name in seen:
                raise UserError(
                    f"image {name} is in {seen[name]} and in {part}; data.train and data.test must have an image "
                    "once"
                )
            seen[name] = part


def read_boxes(folder: Path, name: str) -> Annotated:
    image, annotation = image_of(folder, name), folder / "Annotations" / f"{name}.xml"
    size = size_of(image)
    objects = enumerate(read_xml(annotation).iterfind("object"), 1)
    things = [thing_of(element, size, f"{annotation}: object {number}") for number, element in objects]
    return Annotated(str(image), things, size)


def read_masks(folder: Path, name: str) -> Annotated:
    mask = folder / "SegmentationClass" / f"{name}.png"
    if not mask.is_file():
        raise UserError(f"{mask} is not there, and ImageSets/Segmentation names it; put it there, or take it out")
    return Annotated(str(image_of(folder, name)), [], mask=str(mask))


def image_of(folder: Path, name: str) -> Path:
    path = folder / "JPEGImages" / f"{name}.jpg"
    if not path.is_file():
        raise UserError(f"{path} is not there, and ImageSets names it; put it there, or take it out of the list")
    return path


def size_of(image: Path) -> tuple[int, int]:
    """Width and height from the image's header, as some annotations have them wrong; unknown if it has none."""
    try:
        return still_size(image)
    except (OSError, ValueError):
        return SIZE_UNKNOWN  # reported when the image is read


def read_xml(path: Path) -> ElementTree.Element:
    """Parse an annotation.

    Raises:
        UserError: it is missing, too large or no XML, or declares entities, which could grow without limit.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is not there, and ImageSets names its image; put it there, or take the image out of the list "
            "(VOC has public annotations of 2007-test, and of no later test)"
        )
    try:
        if path.stat().st_size > LARGEST_XML:
            raise ValueError(f"it has more than {LARGEST_XML} bytes")
        return ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=WithoutDoctype()))
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"{path} cannot be read as XML ({one_line(error)}); repair it") from error


class WithoutDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a DOCTYPE, which VOC's do not")


def thing_of(element: ElementTree.Element, size: tuple[int, int], where: str) -> Thing:
    name = (element.findtext("name") or "").strip()
    if name not in NUMBER:
        raise UserError(
            f"{where} must be of one of VOC's classes, got {one_line(repr(name))}; {hint(name, CLASSES)}"
        )
    xmin, ymin, xmax, ymax = (number_of(element, key, where) for key in ("xmin", "ymin", "xmax", "ymax"))
    box = checked((xmin - 1, ymin - 1, xmax, ymax), size, f"{where} ({name})")
    return Thing(box, NUMBER[name], (element.findtext("difficult") or "").strip() == "1")


def number_of(element: ElementTree.Element, key: str, where: str) -> float:
    text = element.findtext(f"bndbox/{key}")
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not abs(number) < LONGEST:
        raise UserError(f"{where} must have a number of pixels in bndbox/{key}, got {one_line(repr(text))}")
    return number


def checked(box: Box, size: tuple[int, int], where: str) -> Box:
    """The box, cut off at the borders of its image."""
    x1, y1, x2, y2 = box
    shown = f"{where} has xmin, ymin, xmax, ymax = {x1 + 1:g}, {y1 + 1:g}, {x2:g}, {y2:g}"
    if not (x2 > x1 and y2 > y1):
        raise UserError(f"{shown}; xmax must not be below xmin, nor ymax below ymin")
    if size == SIZE_UNKNOWN:
        return box
    if not is_inside(box, size) or not area(clipped(box, size)):
        raise UserError(f"{shown}, which does not lie in the image, 1 to {size[0]} and 1 to {size[1]}")
    return clipped(box, size)
