"""Numbers of committed experiments in the READMEs, generated and never typed.

`python -m resnet_lab.report.publish` writes them into the READMEs of the checkout that it is called in, between a
mark and `<!-- / -->`:
    <!-- train_error digits_degradation -->       the final training errors of experiments/digits_degradation;
                                                  other words for `train_error` are the keys of OF_STUDIES
    <!-- outcome lesion deeper -->                whether a claim of its config is shown
    <!-- ours smoke train_error plain-8 -->       mean and standard deviation of a column of its results.csv
    <!-- rows cifar10_eighth jpeg.csv -->         a CSV in the folder of an experiment, as a table
    <!-- rounds throughput rounds.csv -->         the table of a benchmark, computed from its rounds
    <!-- ratio throughput rounds.csv bare loop --> its median ratio to the contender whose name ends so
    <!-- nets fashion_mnist_baselines -->         a table of its nets: what they cost, how they err
    <!-- paper 6 test_error resnet-20 -->         a number that the paper prints: table, measure, net or nets
What ends in `_ko` is the same in Korean.
"""

import csv
import re
import statistics
from collections.abc import Callable
from functools import cache
from pathlib import Path

from resnet_lab.benchmarks.rounds import markdown_table, ratio, read_rounds
from resnet_lab.report.claims import OUTCOMES, Judged, counts, judged
from resnet_lab.report.committed import read_committed
from resnet_lab.report.numbers import paper_numbers
from resnet_lab.report.results import Group, Study, read_results
from resnet_lab.report.tables import cell, multiply_adds, parameters, speed
from resnet_lab.report.tables import markdown_table as table_of
from resnet_lab.report.verdict import spread, verdict

KOREAN = dict(zip(OUTCOMES, ("확인됨", "확인되지 않음", "미결정"), strict=True))
SILENT = " and {silent} of {seeds} that did not start to train"
SILENT_KOREAN = " (시드 {seeds}개 중 {silent}개는 학습이 시작되지 않음)"
COSTS = ["net", "parameters", "multiply-adds", "images/s", "train error", "test error"]
COSTS_KOREAN = ["신경망", "매개변수", "곱셈-덧셈", "이미지/초", "학습 오차", "테스트 오차"]
MARK = re.compile(r"(<!-- (\w+) ([\w./ -]+?) -->)(.*?)(<!-- / -->)", re.DOTALL)


def main() -> None:
    for path in readmes(Path()):
        path.write_text(filled(path.read_text(), path))


def readmes(root: Path) -> list[Path]:
    """The texts that may have marks, translations among them."""
    texts = (path for path in (root / "experiments").rglob("*.md") if path.name != "report.md")
    return [root / "README.md", *sorted(texts)]


def filled(text: str, path: Path) -> str:
    """The text of the README at `path` with the content of its marks rewritten."""
    folders = (*path.resolve().parents, path.resolve().parent / "experiments")
    experiments = next(folder for folder in folders if folder.name == "experiments")

    def written_anew(found: re.Match[str]) -> str:
        start, what, words, _, end = found.groups()
        return f"{start}{WHAT[what](experiments, *words.split())}{end}"

    return MARK.sub(written_anew, text)


def errors(key: str, *kinds: bool, silence: str = SILENT) -> Callable[[Study], str]:
    """The error of each net over the seeds that trained; of plain nets (True), of residual ones (False)."""

    def told(study: Study) -> str:
        nets = [group for group in study.groups if group.trained(key) and group.plain in kinds]
        return ", ".join(f"{title(group)} {spread(group.trained(key))}{silent(group, silence)}" for group in nets)

    return told


def silent(group: Group, words: str) -> str:
    count = len(group.not_started)
    return words.format(silent=count, seeds=len(group.completed)) if count else ""


def title(group: Group) -> str:
    """The net as people write it: plain-20, ResNet-20."""
    return group.name.replace("resnet-", "ResNet-").removesuffix("-A")


def counted(found: list[Judged], words: dict[str, str]) -> str:
    numbers = {word: sum(one.outcome == name for one in found) for name, word in words.items()}
    return ", ".join(f"{word} {number}" for word, number in numbers.items() if number)


def costs(header: list[str]) -> Callable[[Study], str]:
    """What each net costs and how it errs, the cheapest first."""

    def told(study: Study) -> str:
        nets = sorted((group for group in study.groups if group.completed), key=by_costs)
        rows = [[net.title, *(tell(net) for tell in (parameters, multiply_adds, speed))] for net in nets]
        for row, net in zip(rows, nets, strict=True):
            row += [cell(net, "train_error"), cell(net, "test_error")]
        return f"\n\n{table_of(header, rows)}\n\n"

    return told


def by_costs(group: Group) -> float:
    return min(group.values("multiply_adds"), default=0)


OF_STUDIES: dict[str, Callable[[Study], str]] = {
    "train_error": errors("train_error", True, False),
    "plain_train_error": errors("train_error", True),
    "residual_train_error": errors("train_error", False),
    "train_error_ko": errors("train_error", True, False, silence=SILENT_KOREAN),
    "plain_train_error_ko": errors("train_error", True, silence=SILENT_KOREAN),
    "verdict": lambda study: verdict(study)[0],
    "nets": costs(COSTS),
    "nets_ko": costs(COSTS_KOREAN),
    "counts": lambda study: counts(judged(study)),
    "counts_ko": lambda study: counted(judged(study), KOREAN),
    "sentences": lambda study: "\n\n" + "\n".join(f"- {sentence}" for sentence in verdict(study)[1:]) + "\n\n",
}


@cache
def committed(folder: Path) -> Study:
    """The study of a folder, read once however many marks ask for it."""
    return read_results([folder], read_committed)


def of_study(tell: Callable[[Study], str]) -> Callable[..., str]:
    return lambda experiments, name: tell(committed(experiments / name))


def of_claim(outcomes: dict[str, str]) -> Callable[..., str]:
    """The outcome of one claim, in the words that are given."""

    def told(experiments: Path, name: str, claim: str) -> str:
        found = judged(committed(experiments / name))
        return next(outcomes[one.outcome] for one in found if one.claim.name == claim)

    return told


def of_paper(_: Path, table: str, measure: str, *nets: str) -> str:
    return ", ".join(paper_numbers()[int(table), net, measure] for net in nets)


def of_results(experiments: Path, name: str, column: str, net: str) -> str:
    """Mean and standard deviation over the completed runs whose name is that of the net and a hash."""
    with (experiments / name / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "completed"]
    values = [float(row[column]) for row in rows if row["run"].rpartition("-")[0] == net]
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"


def of_rows(experiments: Path, name: str, file: str) -> str:
    """A CSV beside a README as a table."""
    header, *rows = csv.reader((experiments / name / file).read_text().splitlines())
    lines = [header, ["---"] * len(header), *rows]
    return "\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n"


def of_rounds(experiments: Path, name: str, file: str) -> str:
    """The table of the rounds that a benchmark wrote; says so where they are not committed."""
    path = experiments / name / file
    told = markdown_table(read_rounds(path.read_text())) if path.exists() else f"`{file}` is not here yet.\n"
    return f"\n\n{told}\n"


def of_ratio(experiments: Path, name: str, file: str, *contender: str) -> str:
    """How many times as fast a benchmark's first contender was as another: the median of its rounds."""
    speeds = read_rounds((experiments / name / file).read_text())
    ours, *_ = speeds.values()
    (theirs,) = (values for other, values in speeds.items() if other.endswith(" ".join(contender)))
    return f"{ratio(ours, theirs)['median']:.2f}"


WHAT: dict[str, Callable[..., str]] = {
    "paper": of_paper,
    "rows": of_rows,
    "rounds": of_rounds,
    "ratio": of_ratio,
    "outcome": of_claim({name: name for name in OUTCOMES}),
    "outcome_ko": of_claim(KOREAN),
    "ours": of_results,
    **{name: of_study(tell) for name, tell in OF_STUDIES.items()},
}

if __name__ == "__main__":
    main()
