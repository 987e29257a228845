"""What we ask (conf/experiment) and what we learned (experiments) stay together."""

import csv
import re
from pathlib import Path

import pytest

from resnet_lab.benchmarks.rounds import markdown_table, read_rounds, rounds_csv
from resnet_lab.report.numbers import paper_numbers
from resnet_lab.report.publish import MARK, filled, readmes

ROOT = Path(__file__).parent.parent
NAMES = sorted(path.stem for path in ROOT.glob("conf/experiment/*.yaml"))


def test_every_experiment_has_its_folder_and_every_folder_its_experiment() -> None:
    folders = {path.name for path in (ROOT / "experiments").iterdir() if path.is_dir()}
    assert folders - {"reliability"} == set(NAMES)  # that one's experiment is tests/test_chaos.py


@pytest.mark.parametrize("name", NAMES)
def test_a_config_opens_with_what_it_asks(name: str) -> None:
    text = (ROOT / f"conf/experiment/{name}.yaml").read_text()
    for heading in ("Question", "Paper", "Expected", "Cost"):
        assert re.search(rf"^# {heading}: +\S", text, re.MULTILINE), heading
    assert re.search(rf"^# Command: +resnet-lab experiment={name}\b", text, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_has_results_or_says_that_it_has_none(name: str) -> None:
    folder = ROOT / "experiments" / name
    readme = (folder / "README.md").read_text()
    assert f"resnet-lab experiment={name}" in readme
    assert f"({name}/README.md)" in (ROOT / "experiments/README.md").read_text()
    report = folder / "report.md"
    if report.exists():
        verdict = re.search(r"\*\*(.+)\*\*", report.read_text())
        assert verdict is not None
        for quoting in (folder / "README.md", ROOT / "experiments/README.md"):
            assert verdict[1] in quoting.read_text(), f"{quoting} does not quote the verdict of {report}"
        assert (folder / "results.csv").is_file()
        pictures = re.findall(r"\]\((\S+\.png)\)", report.read_text())
        assert pictures, "a report without a picture"
        for picture in pictures:
            assert (folder / picture).is_file()
            assert (folder / picture).with_suffix(".svg").is_file()
    elif name not in ("smoke", "throughput", "imagenet_loading"):
        assert "not run here" in readme.lower()


def test_the_table_of_a_benchmark_can_be_computed_from_its_rounds() -> None:
    speeds = {"ours, all of it": [4.0, 6.5, 5.25], "theirs": [2.0, 2.5, 1 / 3]}
    speeds["left out here"] = []
    assert read_rounds(rounds_csv(speeds)) == speeds
    assert "| left out here | left out |  |" in markdown_table(speeds)
    for path in ROOT.glob("experiments/*/rounds*.csv"):
        assert markdown_table(read_rounds(path.read_text())) in (path.parent / "README.md").read_text(), path


def test_the_reliability_table_is_what_was_noted() -> None:
    folder = ROOT / "experiments/reliability"
    table = (folder / "README.md").read_text()
    for row in csv.reader((folder / "figures.csv").read_text().splitlines()):
        assert "| " + " | ".join(row[:3]) + " |" in table


def test_the_top_level_is_what_it_was_agreed_to_be() -> None:
    allowed = {"pyproject.toml", "conf", "resnet_lab", "experiments", "tests", "outputs", "README.md"}
    assert {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} <= allowed


@pytest.mark.parametrize("path", sorted(ROOT.glob(".github/*.md")), ids=lambda path: path.name)
def test_what_is_told_to_contributors_is_there(path: Path) -> None:
    named = re.findall(r"[\w./]+/[\w./]+", path.read_text())
    places = ("conf/", "experiments/", "tests/", ".github/", ".ci/")
    for name in (name for name in named if name.startswith(places) and "NAME" not in name):
        assert (ROOT / name).exists(), f"{path.name} names {name}"


@pytest.mark.parametrize("path", readmes(ROOT), ids=lambda path: str(path.relative_to(ROOT)))
def test_numbers_of_committed_runs_are_as_publish_writes_them(path: Path) -> None:
    text = path.read_text()
    assert filled(text, path) == text, "python -m resnet_lab.report.publish writes them anew"


@pytest.mark.parametrize("path", readmes(ROOT), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_papers_errors_are_typed_in_one_place(path: Path) -> None:
    typed = set(re.findall(r"(?<![\d.])\d+\.\d\d(?![\d.])", MARK.sub("", path.read_text())))
    printed = {value for (_, _, measure), value in paper_numbers().items() if measure in ("test_error", "top1")}
    assert typed & printed == set(), "put them between marks, as resnet_lab/report/publish.py says"


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("experiments/*/README.ko.md")), ids=lambda path: path.parent.name
)
def test_a_translation_is_not_older_than_its_text(path: Path) -> None:
    def fixed(text: str) -> set[str]:
        """What no language changes: commands, targets of links and pictures, whose numbers are between marks."""
        commands = re.findall(r"^    \S.*$|`resnet-lab.+?`", text, re.MULTILINE)
        measured = [words.split()[0] for _, _, words, _, _ in MARK.findall(text)]
        return {*commands, *re.findall(r"\]\(([^\s)]+)\)", text), *measured}

    text = path.with_name(path.name.replace(".ko", "")).read_text()
    told = "translate what is new, or delete the translation: the book then shows the English"
    assert fixed(path.read_text()) == fixed(text), told


def test_numbers_of_the_paper_and_of_ours_are_filled_in(tmp_path: Path) -> None:
    (tmp_path / "experiments/a").mkdir(parents=True)
    runs = ["plain-8-1,completed,1.0", "plain-8-1,completed,3", "plain-8-bn-2,completed,9", "plain-8-1,failed,"]
    (tmp_path / "experiments/a/results.csv").write_text("\n".join(["run,status,train_error", *runs]))
    numbers = ("paper 6 test_error resnet-20 resnet-32", "ours a train_error plain-8")
    marks = " ".join(f"<!-- {number} -->?<!-- / -->" for number in numbers)
    written = filled(marks, tmp_path / "README.md")
    assert re.sub(r"<!--.*?-->", "", written) == "8.75, 7.51 2.00 ± 1.41"


def test_the_table_of_a_benchmark_is_filled_in_once_its_rounds_are_there(tmp_path: Path) -> None:
    (tmp_path / "experiments/a").mkdir(parents=True)
    mark = "<!-- rounds a rounds.csv -->?<!-- / -->"
    empty = filled(mark, tmp_path / "README.md")
    assert "`rounds.csv` is not here yet." in empty
    speeds = {"ours": [4.0, 6.0], "theirs": [2.0, 2.0]}
    (tmp_path / "experiments/a/rounds.csv").write_text(rounds_csv(speeds))
    assert markdown_table(speeds) in filled(empty, tmp_path / "README.md")


def test_the_ratio_of_a_benchmark_is_the_median_of_its_rounds(tmp_path: Path) -> None:
    (tmp_path / "experiments/a").mkdir(parents=True)
    speeds = {"ours": [4.0, 9.0, 10.0], "theirs": [2.0, 2.0, 2.0], "that of others": [1.0, 1.0, 100.0]}
    (tmp_path / "experiments/a/rounds.csv").write_text(rounds_csv(speeds))
    marks = "<!-- ratio a rounds.csv theirs --><!-- / --> <!-- ratio a rounds.csv of others --><!-- / -->"
    assert re.sub(r"<!--.*?-->", "", filled(marks, tmp_path / "README.md")) == "4.50 4.00"


def test_the_nets_of_a_study_are_listed_from_the_cheapest() -> None:
    path = ROOT / "experiments/README.md"
    header, _, *rows = filled("<!-- nets scenes_classification --><!-- / -->", path).strip().splitlines()[2:-2]
    costs = [float(row.split(" | ")[2].removesuffix("M")) for row in rows]
    assert header == "| net | parameters | multiply-adds | images/s | train error | test error |"
    assert costs == sorted(costs)
    assert len(costs) == 5
