"""Names of the parts of VOC and COCO, in the settings `train` and `test`. Imports no torch, so that mistakes are
reported at once."""

import re
from typing import Any

from resnet_lab.checks import check_choice

VOC_SPLIT = re.compile(r"(200[789]|201[012])-(train|val|trainval|test)", re.ASCII)
COCO_SPLIT = re.compile(r"\w[\w.-]*", re.ASCII)
TRAIN_VOC = ("2007-trainval", "2012-trainval")
ANNOTATIONS = ("boxes", "masks")  # that VOC has


def check_voc(train: Any = TRAIN_VOC, test: Any = ("2007-test",), annotations: Any = "boxes") -> None:
    """Raise ValueError where a name is not a year and one of VOC's parts, or is there twice."""
    check_splits(train, test, VOC_SPLIT, "a year and train, val, trainval or test, such as 2007-trainval")
    check_choice("annotations", annotations, ANNOTATIONS)


def check_coco(train: Any = ("train2014",), test: Any = ("val2014",)) -> None:
    """Raise ValueError where a name cannot be one of a folder of images, such as train2017, or is there twice."""
    check_splits(train, test, COCO_SPLIT, "a folder of images under root, such as train2017")


def check_splits(train: Any, test: Any, name: re.Pattern[str], allowed: str) -> None:
    for setting, given in (("train", train), ("test", test)):
        if not isinstance(given, list | tuple) or not given:
            raise ValueError(f"{setting} must be a list of parts, each {allowed}; got {given!r}")
        for part in given:
            if not isinstance(part, str) or not name.fullmatch(part):
                raise ValueError(f"{setting} must have parts that are {allowed}; got {part!r}")
    every = [*train, *test]
    twice = next((part for part in every if every.count(part) > 1), None)
    if twice:
        raise ValueError(f"{twice} is in train and test, or twice in one of them; name each part once")
