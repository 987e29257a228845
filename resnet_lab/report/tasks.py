"""What the errors of tasks other than classification are, in words, and their further measures."""

from typing import NamedTuple

from resnet_lab.config.tasks import CLASSIFICATION, ERRORS, name_of
from resnet_lab.report.results import Study
from resnet_lab.runs.validity import MEASURES

NAMES = (
    *("test mAP at 0.5", "test mAP at 0.5 to 0.95", "of small objects", "of medium objects", "of large objects"),
    *("test error, top 5", "test error of the class", "test error of the box", "test error of pixels"),
)


class Words(NamedTuple):
    """Names of the two lines of a curve, and a sentence on what the errors are."""

    training: str = "training"
    validation: str = "validation"
    errors: str = ""


WORDS = {"detection": Words("training, of sampled regions", "validation, 100 less mAP")}


def task_of(study: Study) -> str:
    """That of all its runs; classification where they differ."""
    tasks = {name_of(group.config) for group in study.groups if group.config}
    return tasks.pop() if len(tasks) == 1 else CLASSIFICATION


def words_of(study: Study) -> Words:
    task = task_of(study)
    return WORDS.get(task, Words())._replace(errors=ERRORS.get(task, ""))


def measures_in(study: Study) -> dict[str, str]:
    """Those that a record of the study has, if its task is not classification."""
    named = zip(MEASURES, NAMES, strict=True) if task_of(study) != CLASSIFICATION else ()
    return {key: name for key, name in named if any(group.values(key) for group in study.groups)}
