"""COCO's boxes, or others in its format, in the folders of its archives."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from resnet_lab.checks import UserError, check_positive
from resnet_lab.data.annotated import Annotated, AnnotatedImages
from resnet_lab.data.objects import Thing, clipped, is_inside
from resnet_lab.splits import check_coco
from resnet_lab.text import one_line

LARGEST_JSON = 1 << 31  # bytes; that of train2017 has 0.45e9
LONGEST = 1 << 31  # pixels that a number may say
OFFICIAL = re.compile(r"(train|val)201[47]")  # whose ids are the same image's in both years
Json = dict[str, Any]


class COCO(AnnotatedImages):
    """Common Objects in Context (Lin et al., 2014): boxes of 80 classes of objects.

    A part is a folder of images under `root`, such as train2017, with root/annotations/instances_train2017.json,
    as the archives have them. Classes are the categories in the order of their ids, which are sparse. Crowds are
    left out. Boxes of no area are left out of the training, and count in evaluation.

    Args:
        train, test: parts to train and to test on; the paper has train2014 and val2014.
        num_classes: number of categories required.
        settings: those of `AnnotatedImages`.

    Raises:
        ValueError: a setting is out of its range.
        UserError: a file is missing, or something in it is not as COCO's are, and is named.
    """

    tasks = ("detection",)

    def __init__(
        self,
        train: Sequence[str] = ("train2014",),
        test: Sequence[str] = ("val2014",),
        num_classes: int = 80,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        check_coco(train, test)
        check_positive(num_classes=num_classes)
        self.parts, self.num_classes = (list(train), list(test)), num_classes
        self.classes: tuple[str, ...] = ()

    def read(self) -> tuple[list[Annotated], list[Annotated]]:
        seen: dict[object, str] = {}
        train, test = ([image for part in parts for image in self._part(part, seen)] for parts in self.parts)
        return train, test

    def _part(self, part: str, seen: dict[object, str]) -> list[Annotated]:
        path = self.root / "annotations" / f"instances_{part}.json"
        content = read_json(path)
        labels = self._labels(path, content)
        images = by_id(path, "images", content)
        check_once(part, images, seen)
        things: dict[int, list[Thing]] = {number: [] for number in images}
        for number, annotation in by_id(path, "annotations", content).items():
            where = f"{path}: annotation {number}"
            image = annotation.get("image_id")
            if not is_id(image) or image not in images:
                raise UserError(f"{where} is of image_id={one_line(repr(image))}, which is not among the images")
            things[image].append(thing_of(annotation, labels, images[image], where))
        return [self._annotated(path, part, image, things[number]) for number, image in images.items()]

    def _labels(self, path: Path, content: Json) -> dict[int, int]:
        """The classes by the ids of their categories; the same in all parts."""
        categories = sorted(by_id(path, "categories", content).items())
        names = tuple(str(category.get("name")) for _, category in categories)
        if len(names) != self.num_classes:
            raise UserError(
                f"{path} has {len(names)} categories, and data.num_classes={self.num_classes}; set "
                f"data.num_classes={len(names)}"
            )
        if self.classes not in ((), names):
            raise UserError(f"the categories in {path} are not those of the part before it; make them the same")
        self.classes = names
        return {number: label for label, (number, _) in enumerate(categories)}

    def _annotated(self, path: Path, part: str, image: Json, things: list[Thing]) -> Annotated:
        file = self.root / part / image["file_name"]
        if not file.is_file():
            raise UserError(f"{file} is not there, and {path} names it; put it there")
        return Annotated(str(file), things, (image["width"], image["height"]))


def read_json(path: Path) -> Json:
    """Read a file of annotations, without the outlines of the objects, which take most of the memory.

    Raises:
        UserError: it is missing, too large, or not COCO's.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is not there; unpack COCO's archives (cocodataset.org) in the root folder, so that it has "
            "annotations and folders of images such as train2017, or set data.root to the folder that has them"
        )
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"it has more than {LARGEST_JSON} bytes")
        content = json.loads(path.read_bytes(), object_hook=without_outline)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({one_line(error)}); repair it") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"{path} must have a list of {key}, as COCO's instances_*.json")
    return dict(content)


def without_outline(entry: Json) -> Json:
    entry.pop("segmentation", None)
    return entry


def by_id(path: Path, key: str, content: Json) -> dict[int, Json]:
    """The entries of a list by their ids.

    Raises:
        UserError: an entry has no id, or another's, or is an image without a size and the name of a file.
    """
    entries: dict[int, Json] = {}
    for place, entry in enumerate(content[key]):
        number = entry.get("id") if isinstance(entry, dict) else None
        if not is_id(number):
            raise UserError(f"{path}: {key}[{place}] must have an integer as its id, got {one_line(repr(number))}")
        if number in entries:
            raise UserError(f"{path}: two of the {key} have id {number}; ids must differ")
        if key == "images":
            check_image(entry, f"{path}: image {number}")
        entries[number] = entry
    return entries


def is_id(value: object) -> TypeGuard[int]:
    return type(value) is int


def check_image(image: Json, where: str) -> None:
    name, size = image.get("file_name"), [image.get(key) for key in ("width", "height")]
    if not isinstance(name, str) or not name.isprintable() or Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"{where} must have a file_name inside its folder, got {one_line(repr(name))}")
    if not all(is_id(side) and 0 < side < LONGEST for side in size):
        raise UserError(f"{where} must have a width and a height in pixels, got {one_line(size)}")


def check_once(part: str, images: dict[int, Json], seen: dict[object, str]) -> None:
    """Refuse an image that is in two parts, or twice in one; COCO's parts of 2014 and 2017 share images."""
    for number, image in images.items():
        key = number if OFFICIAL.fullmatch(part) else (part, image["file_name"])
        if key in seen:
            raise UserError(
                f"image {number} ({one_line(image['file_name'])}) is in {seen[key]} and in {part}; data.train and "
                "data.test must have an image once"
            )
        seen[key] = part


def thing_of(annotation: Json, labels: dict[int, int], image: Json, where: str) -> Thing:
    category, box, crowd = (annotation.get(key) for key in ("category_id", "bbox", "iscrowd"))
    if not is_id(category) or category not in labels:
        raise UserError(f"{where} has category_id={one_line(repr(category))}, which is not among the categories")
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_length, box)) or min(box[2:]) < 0:
        raise UserError(f"{where} must have a bbox of x, y, width, height in pixels, got {one_line(box)}")
    if crowd not in (None, 0, 1):
        raise UserError(f"{where} must have iscrowd 0 or 1, got {one_line(repr(crowd))}")
    x, y, width, height = map(float, box)
    corners, size = (x, y, x + width, y + height), (image["width"], image["height"])
    if not is_inside(corners, size):
        raise UserError(f"{where} has bbox {box}, which does not lie in its image of {size[0]}x{size[1]} pixels")
    return Thing(clipped(corners, size), labels[category], bool(crowd))


def is_length(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LONGEST
