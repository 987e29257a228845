"""Numbers of committed experiments in the READMEs, generated and never typed.

`python -m resnet_lab.report.publish` writes them into the READMEs of the checkout that it is called in. What
stands between `<!-- train_error digits_degradation -->` and `<!-- / -->` are the final training errors of
experiments/digits_degradation; other words for `train_error` are the keys of WHAT.
"""

import re
from collections.abc import Callable
from pathlib import Path

from resnet_lab.report.committed import read_committed
from resnet_lab.report.results import Group, Study, read_results
from resnet_lab.report.verdict import spread, verdict

MARK = re.compile(r"(<!-- (\w+) (\w+) -->)(.*?)(<!-- / -->)", re.DOTALL)


def main() -> None:
    for path in readmes(Path()):
        path.write_text(filled(path.read_text(), path))


def readmes(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "experiments").rglob("README.md"))]


def filled(text: str, path: Path) -> str:
    """The text of the README at `path` with what stands between its marks written anew."""
    folders = (*path.resolve().parents, path.resolve().parent / "experiments")
    experiments = next(folder for folder in folders if folder.name == "experiments")

    def written_anew(found: re.Match[str]) -> str:
        start, what, name, _, end = found.groups()
        return f"{start}{WHAT[what](read_results([experiments / name], read_committed))}{end}"

    return MARK.sub(written_anew, text)


def errors(key: str, *kinds: bool) -> Callable[[Study], str]:
    """The error of each net over the seeds that trained; of plain nets (True), of residual ones (False)."""

    def told(study: Study) -> str:
        nets = [group for group in study.groups if group.trained(key) and group.plain in kinds]
        return ", ".join(f"{title(group)} {spread(group.trained(key))}{silent(group)}" for group in nets)

    return told


def silent(group: Group) -> str:
    count = len(group.not_started)
    return f" and {count} of {len(group.completed)} that did not start to train" if count else ""


def title(group: Group) -> str:
    """The net as people write it: plain-20, ResNet-20."""
    return group.name.replace("resnet-", "ResNet-").removesuffix("-A")


WHAT: dict[str, Callable[[Study], str]] = {
    "train_error": errors("train_error", True, False),
    "plain_train_error": errors("train_error", True),
    "residual_train_error": errors("train_error", False),
    "verdict": lambda study: verdict(study)[0],
    "sentences": lambda study: "\n\n" + "\n".join(f"- {sentence}" for sentence in verdict(study)[1:]) + "\n\n",
}

if __name__ == "__main__":
    main()
