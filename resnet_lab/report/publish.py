"""Numbers of committed experiments in the READMEs, generated and never typed: `python -m resnet_lab.report.publish`.

In a README, `<!-- train_error digits_degradation -->` ... `<!-- / -->` encloses the final training errors of
experiments/digits_degradation, `<!-- verdict digits_degradation -->` its verdict.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from resnet_lab.report.committed import read_committed
from resnet_lab.report.results import Group, Study, read_results
from resnet_lab.report.validity import ERRORS
from resnet_lab.report.verdict import spread, verdict

MARK = re.compile(r"(<!-- (\w+) (\w+) -->)(.*?)(<!-- / -->)", re.DOTALL)


def main() -> None:
    for path in readmes(Path(sys.argv[1] if len(sys.argv) > 1 else ".")):
        path.write_text(filled(path.read_text(), path))


def readmes(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "experiments").rglob("README.md"))]


def filled(text: str, path: Path) -> str:
    """The text with what stands between its marks written anew from the committed records."""
    experiments = next(folder for folder in (path.parent / "experiments", *path.parents) if folder.name == "experiments")

    def number(found: re.Match[str]) -> str:
        start, what, name, _, end = found.groups()
        return f"{start}{WHAT[what](read_results([experiments / name], read_committed))}{end}"

    return MARK.sub(number, text)


def errors(key: str) -> Callable[[Study], str]:
    """The error of each net, over its completed seeds."""

    def told(study: Study) -> str:
        return ", ".join(f"{title(group)} {spread(group.values(key))}" for group in study.groups if group.values(key))

    return told


def title(group: Group) -> str:
    """The net as people write it: plain-20, ResNet-20."""
    return group.name.replace("resnet-", "ResNet-").removesuffix("-A")


WHAT: dict[str, Callable[[Study], str]] = {
    **{key: errors(key) for key in ERRORS},
    "verdict": lambda study: verdict(study)[0],
    "sentences": lambda study: "\n\n" + "\n".join(f"- {sentence}" for sentence in verdict(study)[1:]) + "\n\n",
}

if __name__ == "__main__":
    main()
