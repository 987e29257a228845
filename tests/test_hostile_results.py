"""Folders of results that somebody else has made or edited: names, numbers, files and links meant to do harm."""

import csv
import html
import io
import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from resnet_lab import eval as evaluating
from resnet_lab.checks import UserError
from resnet_lab.files import write_atomically
from resnet_lab.report import main, write_report
from resnet_lab.report.evaluations import evaluation_tables
from resnet_lab.report.page import curves
from resnet_lab.report.results import Result, read_results
from resnet_lab.report.tables import markdown, results_csv
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import run_name
from resnet_lab.runs.noted import evaluations, note_evaluation
from resnet_lab.runs.plan import add_to_plan, planned
from resnet_lab.text import one_line, visible

CONFIG: dict[str, Any] = {
    "model": {"_target_": "resnet_lab.models.resnet_cifar", "depth": 20, "shortcut": "none"},
    "data": {"_target_": "resnet_lab.data.Digits", "batch_size": 64},
    "optimizer": {"lr": 0.1},
    "trainer": {"accelerator": "cpu"},
    "experiment_name": "study",
    "iterations": 20,
    "job": "train",
}
FACTS: dict[str, Any] = {
    **dict.fromkeys(("train_error_clean", "val_error", "test_error"), 6.0),
    "status": "completed",
    "train_error": 5.0,
    "parameters": 1000,
    "multiply_adds": 10_000,
    "images_per_second": 10.0,
    "seconds": 3.0,
    "threads": 1,
    "iterations": 20,
    "data": {"validates_on": "the test images"},
    "versions": {"torch": "2"},
    "machine": {"processor": "p", "cores": 2},
    "git": {"commit": "c" * 40, "dirty": False},
}
ROWS = ("step,train_error,val_error", "10,50.0,51.0", "20,5.0,6.0")
DEEP = "[" * 100_000 + "]" * 100_000
WORDS = 'x"><img src=x onerror="document.title=1337"><script>document.title=1337</script>'


def add_run(root: Path, seed: int = 0, config: dict[str, Any] | None = None, **facts: Any) -> Run:
    config = CONFIG | {"seed": seed} | (config or {})
    run = Run(root / "study" / run_name(CONFIG) / f"seed{seed}")
    run.directory.mkdir(parents=True, exist_ok=True)
    run.record_path.write_text(json.dumps(FACTS | {"config": config} | facts))
    run.metrics_path.write_text("\n".join(ROWS) + "\n")
    return run


def only_bad(root: Path) -> Result:
    """The one result that is not as it should be, of all runs under the folder."""
    study = read_results([root])
    assert "(n = 1)" in markdown(study)
    (bad,) = [result for result in study.results if result.status != "completed" or result.reason]
    return bad


# Links


def test_the_report_replaces_links_and_leaves_alone_what_they_lead_to(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    add_run(tmp_path / "results")
    # nets of two kinds, so that there is a figure of their costs
    add_run(tmp_path / "results", 1, {"model": {"_target_": "resnet_lab.models.vgg"}})
    names = ["report.md", "report.html", "results.csv"]
    names += [f"{figure}.{kind}" for figure in ("curves", "multiply_adds") for kind in ("png", "svg")]
    for name in names:
        (tmp_path / "results" / name).symlink_to(victim)
        (tmp_path / "results" / f".{name}.{os.getpid()}").symlink_to(victim)
    write_report([tmp_path / "results"], tmp_path / "results")
    assert victim.read_text() == "precious"
    for name in names:
        assert (tmp_path / "results" / name).is_file()
        assert not (tmp_path / "results" / name).is_symlink()


def test_a_folder_of_runs_may_be_a_link(tmp_path: Path) -> None:
    add_run(tmp_path / "disk")
    (tmp_path / "outputs").symlink_to(tmp_path / "disk")
    main([str(tmp_path / "outputs")])
    assert "5.00 % (n = 1)" in (tmp_path / "disk/report.md").read_text()


@pytest.mark.parametrize("name", ["evaluations.json", ".evaluations.json.lock"])
def test_an_evaluation_is_not_written_through_a_link(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("[]")
    (tmp_path / name).symlink_to(victim)
    if name.endswith("lock"):
        with pytest.raises(UserError, match="lock is not a regular file; remove it"):
            note_evaluation(tmp_path / "evaluations.json", {"protocol": {"name": "a"}})
    else:
        note_evaluation(tmp_path / "evaluations.json", {"protocol": {"name": "a"}})
        assert len(evaluations(tmp_path / "evaluations.json")) == 1
    assert victim.read_text() == "[]"


@pytest.mark.parametrize("name", [".plan.lock", "plan.json"])
def test_a_plan_is_not_written_through_a_link(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("[]")
    (tmp_path / name).symlink_to(victim)
    if name.endswith("lock"):
        with pytest.raises(UserError, match=r"plan.lock is not a regular file; remove it"):
            add_to_plan(tmp_path, [str(tmp_path / "study")])
    else:
        add_to_plan(tmp_path, [str(tmp_path / "study")])
        assert planned(tmp_path) == {"study"}
    assert victim.read_text() == "[]"


@pytest.mark.parametrize("name", [".lock", "metrics.csv", "train.log", ".hydra"])
def test_a_run_does_not_write_through_a_link(tmp_path: Path, tiny: Any, name: str) -> None:
    run, _ = tiny()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    shutil.rmtree(run.config_path.parent)
    (run.directory / name).unlink(missing_ok=True)
    (run.directory / name).symlink_to(victim)
    with pytest.raises(UserError, match="remove it"):
        tiny()
    assert victim.read_text() == "precious"
    if name == "metrics.csv":
        with pytest.raises(UserError, match="remove it"):
            run.append_metrics({"step": 1})
    assert victim.read_text() == "precious"


def test_the_record_and_the_config_replace_links(tmp_path: Path, tiny: Any) -> None:
    run, _ = tiny()
    for path in (run.record_path, run.config_path):
        victim = tmp_path / path.name
        path.rename(victim)
        path.symlink_to(victim)
        before = victim.read_text()
        run.update(status="interrupted")
        tiny()
        assert victim.read_text() == before
    assert not run.config_path.is_symlink()


def test_a_file_is_not_written_through_a_link_at_its_temporary_name(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".file.{os.getpid()}").symlink_to(victim)
    write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["../elsewhere/seed0", "/elsewhere/seed0", "a\0b"])
def test_a_plan_leads_nowhere_out_of_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "plan.json").write_text(json.dumps([name]))
    with pytest.raises(UserError, match="not a list of folders in it"):
        planned(tmp_path)


# Names

NAMES = [
    WORDS,
    "[[DATA]]",
    "[[TITLE]]",
    "<!--<script>",
    "</script><script>document.title=1337</script>",
    "x\n# Verdict: all cured\n| a | b |\n",
    "x\u2028# Verdict",
    "=1+1",
    "$\\frac{$",
    "\\input{x}",
    "\ud800",
    "\x1b]0;pwned\x07",
    "\u202eevil",
    "_hidden",
    "x" * 100_000,
    "[a](javascript:alert(1)) ![b](http://c/d) `e` *f* | g",
    "😀",
]


@pytest.mark.parametrize("first", range(0, len(NAMES), 6))
def test_names_are_single_lines_of_text_wherever_they_go(tmp_path: Path, first: int) -> None:
    names = NAMES[first : first + 6]
    for seed, name in enumerate(names):
        root, config = tmp_path / str(seed), {"experiment_name": name}
        add_run(root, 0, config, error=name, versions={"torch": name})
        # of another kind, so that the figure of the costs has names, too
        other = config | {"model": {"_target_": "resnet_lab.models.vgg"}}
        add_run(root, 1, other, data={"validates_on": name}, machine={"processor": name})
    page = write_report([tmp_path], tmp_path / "report").read_text()
    text, table = ((tmp_path / "report" / name).read_text() for name in ("report.md", "results.csv"))
    for shown in (text, page, table):
        assert shown == visible(shown)
        assert max(map(len, shown.splitlines())) < 50_000
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert [text.splitlines()[0], "## Runs that are not complete"] == headings
    assert not re.search(r"<img|<script|(?<!\\)\]\(javascript|(?<!\\)\]\(http", text)
    rows = list(csv.reader(io.StringIO(table)))
    assert len(rows) == 1 + 2 * len(names)
    assert not any(cell.lstrip().startswith(tuple("=+-@")) for row in rows for cell in row)
    assert page.count("<script") == 4  # two of data, and two of ours
    assert page.count("<img") == 1  # of the costs
    assert not re.search(r"<[^>]* on\w+=|<!--", page)
    _, data = re.findall(r'type="application/json">(.*?)</script>', page)
    shown_names = [net["name"] for net in json.loads(data)["nets"]]
    for name in names:
        assert sum(shown.startswith(f"{one_line(name)}/") for shown in shown_names) == 2


def test_names_of_folders_are_text_as_well(tmp_path: Path) -> None:
    run = add_run(tmp_path)
    hostile = tmp_path / "study" / "<img src=x>\n# Verdict\x1b"
    run.directory.parent.rename(hostile)
    (hostile / "seed0/record.json").write_text("{")
    text = markdown(read_results([tmp_path]))
    assert "&lt;img src=x&gt; # Verdict\\\\x1b" in text
    assert text == visible(text)


@pytest.mark.slow
def test_a_browser_takes_names_for_text(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium")
    hostile = [WORDS, "[[DATA]]", "<!--<script>", "</script><script>document.title=1337</script>"]
    for seed, name in enumerate(hostile):
        add_run(tmp_path / str(seed), seed, {"experiment_name": name}, error=name)
    page = write_report([tmp_path], tmp_path)
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += f" --disable-component-update --disable-sync --user-data-dir={tmp_path}/browser --dump-dom"
    done = subprocess.run([browser, *options.split(), page.as_uri()], capture_output=True, text=True, timeout=120)
    assert "<title>1337" not in done.stdout
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout)
    assert html.unescape(title) == ", ".join(sorted(hostile))
    # the script has drawn a curve for training and one for validation of each, and made no element of a name
    assert done.stdout.count("stroke-dasharray") >= 2 * len(hostile)
    assert done.stdout.count("<label>") == len(hostile) + 1  # the switch of the scale
    assert done.stdout.count("<img") == done.stdout.count('<img alt="final errors against depth"')


# Records and curves


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"test_error": -50}, "test_error is -50"),
        ({"test_error": 200}, "test_error is 200"),
        ({"images_per_second": float("nan")}, "images_per_second is nan"),
        ({"images_per_second": -1}, "images_per_second is -1"),
        ({"multiply_adds": -1}, "multiply_adds is -1"),
        ({"multiply_adds": float("nan")}, "multiply_adds is nan"),
        ({"multiply_adds": 10**400}, "multiply_adds is 1000"),
        ({"parameters": 10**400}, "parameters is 1000"),
        ({"parameters": -1}, "parameters is -1"),
        ({"seconds": "=cmd|x"}, "seconds is =cmd|x"),
        ({"threads": 200_000}, "threads is 200000"),
        ({"iterations": True}, "iterations is True"),
        ({"status": "\x1b]0;pwned\x07"}, r"status is \x1b]0;pwned\x07"),
        ({"config": CONFIG | {"seed": "=1+1"}}, "config.seed is =1+1"),
        ({"config": CONFIG | {"job": "x"}}, "config.job is x"),
        ({"config": CONFIG | {"data": 5}}, "config.data is 5"),
        ({"config": CONFIG | {"optimizer": [1]}}, "config.optimizer is [1]"),
        ({"config": {"model": None}}, "config.model is None"),
    ],
)
def test_a_value_out_of_its_range_is_named_and_left_out(
    tmp_path: Path, facts: dict[str, Any], reason: str
) -> None:
    add_run(tmp_path, 1)
    add_run(tmp_path, 0, **facts)
    bad = only_bad(tmp_path)
    assert (bad.status, bad.directory.name) == ("unreadable", "seed0")
    assert reason in bad.reason
    assert len(bad.reason) < 200


def test_facts_of_runs_that_did_not_complete_are_checked_as_well(tmp_path: Path) -> None:
    add_run(tmp_path, 1)
    add_run(tmp_path, 0, status="failed", test_error="=1+1")
    assert only_bad(tmp_path).reason == "ValueError: test_error is =1+1"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("15,NaN,6.0", "not finite"),
        ("15,INF,6.0", "not finite"),
        ("15,-Infinity,6.0", "not finite"),
        ("15,1e308,6.0", "train_error at step 15 is 1e+308"),
        ("15,-50,6.0", "train_error at step 15 is -50.0"),
        ("15,5.0,200", "val_error at step 15 is 200.0"),
        ("-5,5.0,6.0", "a row is incomplete"),
        ("10,5.0,6.0", "step 10 follows 10"),
        ("5,5.0,6.0", "step 5 follows 10"),
        ("1e30,5.0,6.0", "damaged"),
        (f"{10**30},5.0,6.0", "step 1000"),
        ("30,5.0,6.0\n25,5.0,6.0", "step 25 follows 30"),
        ("15,5.0", "a row is incomplete"),
        ("15,5.0,6.0,7.0", "a row is incomplete"),
        ("15,x,6.0", "could not convert"),
        (f"15,{'9' * 200_000},6.0", "damaged"),
    ],
)
def test_a_row_out_of_its_range_costs_its_own_run(tmp_path: Path, row: str, reason: str) -> None:
    add_run(tmp_path, 1)
    run = add_run(tmp_path, 0)
    run.metrics_path.write_text("\n".join((*ROWS[:2], row, ROWS[2])) + "\n")
    bad = only_bad(tmp_path)
    assert bad.status == "unreadable"
    assert reason in bad.reason


def test_a_step_after_the_last_iteration_is_named(tmp_path: Path) -> None:
    add_run(tmp_path, 1)
    add_run(tmp_path, 0, status="interrupted").metrics_path.write_text("\n".join((*ROWS, "30,5.0,6.0")) + "\n")
    assert "step 30, after the last iteration" in only_bad(tmp_path).reason


CONTENTS = {
    "deep": DEEP,
    "deep config": json.dumps(FACTS | {"config": CONFIG | {"model": "MODEL"}}).replace('"MODEL"', DEEP),
    "not so deep": "[" * 500 + "]" * 500,
    "many digits": "1" * 10_000,
    "list": "[1, 2]",
    "text": '"completed"',
    "null": "null",
    "empty": "",
    "cut off": '{"status": ',
    "not UTF-8": b"\xff\xfe",
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
@pytest.mark.parametrize("name", ["record.json", "evaluations.json", "plan.json", "ensembles.json"])
def test_a_damaged_file_costs_its_own_row(tmp_path: Path, name: str, content: str | bytes) -> None:
    whole, broken = add_run(tmp_path, 1), add_run(tmp_path, 0)
    for run in (whole, broken):
        note_evaluation(run.directory / "evaluations.json", evaluation(run))
    where = tmp_path / "study" if name in ("plan.json", "ensembles.json") else broken.directory
    (where / name).write_bytes(content.encode() if isinstance(content, str) else content)
    study = read_results([tmp_path])
    text = markdown(study)
    assert f"{name} is damaged" in text
    assert "5.00" in text
    assert evaluation_tables(study)[0][2][0][1].startswith("7.00")


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "large"])
@pytest.mark.parametrize("name", ["record.json", "metrics.csv", "evaluations.json", "plan.json", ".lock"])
def test_a_file_that_is_none_costs_its_own_row(tmp_path: Path, name: str, kind: str) -> None:
    add_run(tmp_path, 1)
    run = add_run(tmp_path, 0, status="running" if name == ".lock" else "completed")
    add_to_plan(tmp_path / "study", [str(run.directory)])
    path = (tmp_path / "study" if name == "plan.json" else run.directory) / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 33)  # bytes, none of them on the disk
    study = read_results([tmp_path])
    text = markdown(study)
    assert "5.00" in text
    if (name, kind) not in ((".lock", "large"), ("plan.json", "folder")):
        assert re.search(rf"{name} (is not a regular file|has more than \d+ bytes)", text)


def test_a_plan_of_ten_thousands_is_refused(tmp_path: Path) -> None:
    add_run(tmp_path)
    (tmp_path / "study/plan.json").write_text(json.dumps([f"a-{i}/seed0" for i in range(20_000)]))
    assert "more than 10000 runs" in markdown(read_results([tmp_path]))


def evaluation(run: Run) -> dict[str, Any]:
    from resnet_lab.runs.identity import hash_of_run

    config = run.record()["config"]
    return {"protocol": {"name": "ten_crop"}, "error": 7.0, "run": hash_of_run(config), "iteration": 20}


HOSTILE: list[Any] = [
    *(None, True, -1, 0, 10**400, 1e308, float("nan"), float("inf"), 200, "", "x", "=1+1", "\ud800", "\x1b[2J"),
    *("<img src=x>", "$\\frac{$", "a" * 10_000, "_x", [], {}, [[]], {"name": 1}, "completed", "failed", "running"),
]


def test_records_altered_at_random_cost_no_more_than_their_own_rows(tmp_path: Path) -> None:
    draw = random.Random(0)
    add_run(tmp_path, 1)
    run = add_run(tmp_path, 0)
    note_evaluation(run.directory / "evaluations.json", evaluation(run))
    for path in (run.record_path, run.directory / "evaluations.json"):
        whole = path.read_text()
        for _ in range(150):
            content = json.loads(whole)
            alter(content, draw)
            path.write_text(json.dumps(content))
            study = read_results([tmp_path])
            text = markdown(study) + results_csv(study) + json.dumps(curves(study), allow_nan=False)
            assert "5.00" in text
            assert text == visible(text)
            assert "<img" not in markdown(study)
        path.write_text(whole)


def alter(content: Any, draw: random.Random) -> None:
    """Put something else in a random place of nested dicts and lists, or remove what is there."""
    while True:
        key = draw.choice(list(content)) if isinstance(content, dict) else draw.randrange(len(content))
        if not isinstance(content[key], dict | list) or not content[key] or draw.random() < 0.3:
            break
        content = content[key]
    if draw.random() < 0.2:
        del content[key]
    else:
        content[key] = draw.choice(HOSTILE)


# Evaluation


def evaluate(folder: Path, **config: Any) -> int:
    asked = {
        "runs": str(folder),
        "weights": None,
        "ensemble": False,
        "trainer": {},
        "protocol": {"name": "recorded"},
    }
    return evaluating.perform(asked | config)


@pytest.mark.parametrize(
    ("protocol", "word"), [({"name": "recorded"}, "as recorded"), ({"name": "ten_crop"}, "evaluated")]
)
def test_a_run_that_cannot_be_evaluated_makes_the_exit_code_1_and_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], protocol: Any, word: str
) -> None:
    errors = {key: FACTS[key] for key in ("train_error_clean", "val_error", "test_error")}
    monkeypatch.setattr(evaluating, "evaluate", lambda *_: errors)
    monkeypatch.setattr(evaluating, "make_member", lambda *_: (None, {}))
    monkeypatch.setattr(evaluating, "evaluate_and_print", lambda *_: evaluating.say(word) or {})
    add_run(tmp_path, 9)
    assert evaluate(tmp_path, protocol=protocol) == 0
    broken = [add_run(tmp_path, seed) for seed in range(4)]
    broken[0].record_path.write_text(DEEP)
    broken[1].record_path.unlink()
    os.mkfifo(broken[1].record_path)
    add_run(tmp_path, 2, status="\x1b]0;pwned\x07")
    add_run(tmp_path, 3, config={"model": []})
    add_to_plan(tmp_path / "study", [str(run.directory) for run in broken] + [str(tmp_path / "study/a/seed0")])
    assert evaluate(tmp_path, protocol=protocol) == 1
    told = capsys.readouterr().out
    assert told.count(word) == 2
    for reason in (
        "nested more than 100 deep",
        "not a regular file",
        r"status is \x1b",
        "config.model is []",
        "missing",
    ):
        assert reason in told
    assert "\x1b" not in told
    for seed in range(4):
        shutil.rmtree(broken[seed].directory)
    (tmp_path / "study/plan.json").write_text(DEEP)
    assert evaluate(tmp_path, protocol=protocol) == 1
    assert "plan.json is damaged" in capsys.readouterr().out


def test_a_failed_run_among_whole_ones_makes_the_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {key: FACTS[key] for key in ("train_error_clean", "val_error", "test_error")}
    monkeypatch.setattr(evaluating, "evaluate", lambda *_: errors)
    add_run(tmp_path, 0)
    add_run(tmp_path, 1, status="failed")
    assert evaluate(tmp_path) == 1
    # a measurement of speed has no weights to evaluate
    add_run(tmp_path, 1, {"job": "throughput"})
    assert evaluate(tmp_path) == 0


@pytest.mark.parametrize("threads", [200_000, -1, 0, "2", 10**400])
def test_a_number_of_threads_that_no_run_had_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], threads: object
) -> None:
    add_run(tmp_path, 0, threads=threads)
    assert evaluate(tmp_path) == 1
    assert "threads is " in capsys.readouterr().out


def test_what_steers_a_terminal_is_shown() -> None:
    assert visible("a\x1b]0;b\x07\x9b\u202e\ud800\nc") == "a\\x1b]0;b\\x07\\x9b\\u202e\\ud800\nc"
    assert one_line("a\nb\r\x1b\u2028c") == "a b \\x1b c"
    assert one_line("é" * 1000, 10) == "é" * 9 + "…"
