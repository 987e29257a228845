"""`resnet-lab-analyze`: rows beside runs, bound to weights and settings, and the report that draws them."""

import csv
import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from hydra import compose, initialize_config_dir
from runs import rewrite

from resnet_lab import trust
from resnet_lab.analyze import perform
from resnet_lab.checks import UserError
from resnet_lab.config.compose import CONF, freeze, resolved
from resnet_lab.report import write_report
from resnet_lab.report.committed import read_committed
from resnet_lab.report.results import read_results, read_run
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of_run
from resnet_lab.runs.noted import entries
from resnet_lab.runs.processes import python
from resnet_lab.runs.sealed import digest_of
from resnet_lab.runs.start import prepare
from resnet_lab.runs.worker import execute

Tiny = Callable[..., tuple[Run, dict[str, Any]]]
Call = Callable[..., subprocess.CompletedProcess[str]]
NET = [
    "model=cifar_plain",
    *(words for words in TINY if words.partition(".")[0] in ("data", "data=synthetic", "model")),
]


def analyze(*overrides: str) -> int:
    """`resnet-lab-analyze OVERRIDES`, in this process."""
    with initialize_config_dir(CONF, version_base="1.3"):
        config = resolved(compose("analyze", ["jobs=1", *overrides]), "analyze")
    return perform(config)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with initialize_config_dir(CONF, version_base="1.3"):
        config = freeze(compose("train", [f"output_root={tmp_path_factory.mktemp('runs')}", *TINY]))
    run = prepare(config)
    assert run is not None
    assert execute(run, config) == 0
    return run.directory


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Run:
    """A copy of one finished run."""
    return Run(shutil.copytree(finished, tmp_path / "default" / finished.parent.name / "seed0"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def files(run: Run) -> list[Path]:
    return sorted((run.directory / "analyses").glob("*"))


def test_rows_lie_beside_the_run_and_what_is_there_is_skipped(
    resnet_lab: Call, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"runs={run.directory.parent.parent}", "analysis=responses", "analysis.images=20")
    done = resnet_lab("analyze", *words)
    (path,) = files(run)
    assert (done.returncode, done.stdout) == (0, f"{path}: written\n"), done.stderr
    assert [row["name"] for row in rows_of(path)][:2] == ["stem.0", "stage1.0.conv1"]
    (entry,) = entries(run.directory / "analyses.json")
    assert (entry["analysis"], entry["iteration"], entry["file"]) == ("responses", 6, path.name)
    assert (entry["run"], entry["weights"]) == (
        hash_of_run(run.record()["config"]),
        digest_of(run.checkpoint_path),
    )
    assert entry["settings"] == {
        "_target_": "resnet_lab.analyses.responses",
        **{"part": "train", "images": 20, "at": "last"},
    }
    assert analyze(*words) == 0
    assert capsys.readouterr().out == f"{path}: there already; force=true recomputes it\n"
    assert analyze(*words, "force=true") == 0
    assert capsys.readouterr().out == f"{path}: written\n"
    assert len(entries(run.directory / "analyses.json")) == len(files(run)) == 1


def test_rows_of_other_settings_lie_beside_and_what_is_damaged_is_made_anew(run: Run, capsys: Any) -> None:
    words = (f"runs={run.directory}", "analysis=signals", "analysis.images=8")
    assert analyze(*words) == 0
    first, last = files(run)
    assert rows_of(first) != rows_of(last)
    assert {entry["iteration"] for entry in entries(run.directory / "analyses.json")} == {0, 6}
    assert analyze(*words, "analysis.at=last", "analysis.batch_size=4") == 0
    assert len(files(run)) == 3
    whole = first.read_text()
    first.write_text(whole[:-20])
    capsys.readouterr()
    assert analyze(*words) == 0
    assert first.read_text() == whole
    assert [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()].count("written") == 1
    assert analyze(*words, "analysis.plot.log=false") == 0
    plots = {entry["file"]: entry["plot"]["log"] for entry in entries(run.directory / "analyses.json")}
    assert plots[first.name] is False


def test_a_fresh_net_is_the_one_that_a_run_begins_with(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert analyze(f"runs={run.directory}", "analysis=responses", "analysis.at=initialization") == 0
    capsys.readouterr()
    assert analyze("analysis=responses", *NET) == 0
    (path,) = files(run)
    shown = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["name"] for row in shown] == [row["name"] for row in rows_of(path)]
    assert [float(row["std"]) for row in shown] == pytest.approx(
        [float(row["std"]) for row in rows_of(path)], rel=1e-4
    )
    output = tmp_path / "rows/fresh.csv"
    assert analyze("analysis=responses", *NET, "seed=1", f"output={output}") == 0
    assert rows_of(output) != shown
    with pytest.raises(UserError, match=r"fresh.csv is there already; force=true replaces it"):
        analyze("analysis=responses", *NET, f"output={output}")
    monkeypatch.setenv("HOME", str(output.parent))
    with pytest.raises(UserError, match=r"fresh.csv is there already; force=true replaces it"):
        analyze("analysis=responses", *NET, "output='~/fresh.csv'")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs={run}"], "analysis=NAME must be given; there are .*paths, receptive_field, responses, roughness"),
        (["analysis=responses"], "runs=PATH, or model=... and data=... for a fresh net, must be given, one of"),
        (["analysis=responses", "runs={run}", "model=cifar_plain"], "must be given, one of them alone"),
        (["analysis=responses", "model=cifar_plain"], "a fresh net needs model=... and data=..."),
        (["analysis=responses", "model=vgg11", "data=digits"], "model: VGG does not take images of 1x8x8"),
        (["analysis=responses", "runs={run}", "seed=1"], "seed goes with model and data; runs have their own"),
        (["analysis=responses", "runs={run}/nowhere"], "runs: .*nowhere does not exist"),
        (
            ["analysis=responses", "runs={run}", "analysis.at=first"],
            "analysis.at must be one of initialization, last",
        ),
        (
            ["analysis=responses", "runs={run}", "+analysis.image=1"],
            "analysis.image is not a .* mean analysis.images?",
        ),
        (
            ["analysis=responses", "runs={run}", "analysis.images=some"],
            "analysis.images must be an integer, got 'some'",
        ),
        (["analysis=responses", "runs={run}", "+analysis.net=1"], "analysis.net is set by the lab; leave it out"),
        (
            ["analysis=responses", "runs={run}", "analysis.plot.kind=pie"],
            "analysis.plot.kind must be one of line, bars, contour; got 'pie'",
        ),
        (
            ["analysis=responses", "runs={run}", "+analysis.plot.z=std"],
            "analysis.plot.z is only for kind=contour, got 'std'",
        ),
        (
            ["analysis=responses", "runs={run}", "analysis.plot.kind=contour"],
            "analysis.plot.x must be one column where kind=contour, got .'layer', 'rank'",
        ),
        (
            ["analysis=landscape", "runs={run}", "analysis.plot.z=null"],
            "analysis.plot.z must be the name of a column",
        ),
        (
            ["analysis=responses", "runs={run}", "+analysis.plot.w=a"],
            "analysis.plot.w is not a setting here; there are",
        ),
        (
            ["analysis=responses", "runs={run}", "analysis.plot.x=3"],
            "analysis.plot.x must be the name of a column",
        ),
        (
            ["analysis=responses", "runs={run}", "analysis._target_=os.system"],
            "must be one of the analyses of resnet_lab",
        ),
        (
            ["analysis=responses", "runs={run}", "analysis._target_=resnet_lab.analyses.respnses"],
            "analysis._target_: there is no 'resnet_lab.analyses.respnses'",
        ),
        (["analysis=responses", "runs={run}", "seed=-1"], "seed must be null or an integer from 0"),
    ],
)
def test_refused_before_anything_is_written(tiny: Tiny, words: list[str], message: str) -> None:
    run, _ = tiny()
    with pytest.raises(UserError, match=message):
        analyze(*(word.format(run=run.directory) for word in words))
    assert not (run.directory / "analyses").exists()


def test_what_a_run_refuses_is_told_and_the_others_are_analyzed(
    run: Run, tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    other, _ = tiny("seed=1")
    assert analyze(f"runs={run.directory.parent}", "analysis=responses") == 1
    assert f"{other.directory}: interrupted, left out" in capsys.readouterr().out
    assert len(files(run)) == 1
    with pytest.raises(UserError, match=r"analysis\.images must be a positive integer, got 0"):
        analyze(f"runs={run.directory}", "analysis=responses", "force=true", "analysis.images=0")
    for wrong, message in {
        "analysis.plot.y=spread": "analysis responses: plot.y: there is no column spread; there are layer, mean",
        "analysis.plot.x=name": "analysis responses: a value of plot.x is not a number; draw bars",
    }.items():
        assert analyze(f"runs={run.directory}", "analysis=responses", "force=true", wrong) == 1
        assert message in capsys.readouterr().out
    assert len(files(run)) == 1
    (run.directory / "analyses.json").write_text("{")
    assert analyze(f"runs={run.directory}", "analysis=responses") == 1
    assert "analyses.json is damaged" in capsys.readouterr().out


def test_the_report_draws_every_analysis_and_has_its_numbers(run: Run, tmp_path: Path) -> None:
    for words in (["analysis=responses"], ["analysis=signals", "analysis.plot.kind=bars", "analysis.plot.x=name"]):
        assert analyze(f"runs={run.directory}", *words) == 0
    written = write_report([run.directory], tmp_path / "report")
    for name in ("analysis-responses", "analysis-signals"):
        assert {path.suffix for path in written.parent.glob(f"{name}.*")} == {".png", ".svg", ".csv"}
        assert f"({name}.png)" in (written.parent / "report.md").read_text()
    assert written.read_text().count("data:image/svg+xml") == 2
    rows = rows_of(written.parent / "analysis-responses.csv")
    assert [row["std"] for row in rows] == [row["std"] for row in rows_of(files(run)[0])]
    assert {(row["net"], row["seed"], row["at"]) for row in rows} == {("plain-8", "0", "last")}
    assert len(rows_of(written.parent / "analysis-signals.csv")) == 2 * len(rows)
    # from what is committed of a report the same can be drawn
    (again,), (before,) = (
        read_results([path], read_committed).results for path in (written.parent, run.directory)
    )
    assert again.analyses == before.analyses
    assert list(again.analyses[0].rows[0]) == list(before.analyses[0].rows[0])


def test_the_report_draws_a_landscape_of_each_net(run: Run, tmp_path: Path) -> None:
    assert analyze(f"runs={run.directory}", "analysis=landscape", "analysis.points=3", "analysis.images=4") == 0
    written = write_report([run.directory], tmp_path / "report")
    drawn = (written.parent / "analysis-landscape.svg").read_text()
    for told in ("landscape; the first seed of each net", "plain-8, seed 0, trained", ">loss<"):
        assert told in drawn
    assert len(rows_of(written.parent / "analysis-landscape.csv")) == 9
    assert ">loss<" in (written.parent / "analysis-landscape-surface.svg").read_text()
    page = written.read_text()
    found = re.search(r'<script id="surfaces" type="application/json">(.*?)</script>', page)
    assert found is not None
    ((figure),) = json.loads(found[1])
    assert (figure["title"], figure["axes"], figure["log"]) == ("landscape", ["x", "y", "loss"], True)
    rows = rows_of(written.parent / "analysis-landscape.csv")
    heights = [height for row in figure["surfaces"][0]["heights"] for height in row]
    assert heights == pytest.approx([math.log10(float(row["loss"])) for row in rows], rel=1e-3)
    (again,) = read_results([written.parent], read_committed).results
    assert again.analyses[0].plot["z"] == ["loss"]


def test_rows_of_other_weights_are_left_out_with_a_sentence(run: Run, tmp_path: Path) -> None:
    assert analyze(f"runs={run.directory}", "analysis=signals") == 0
    rewrite(run.checkpoint_path, lambda checkpoint: checkpoint.update(other=1))
    result = read_run(run.directory)
    assert [found.settings["at"] for found in result.analyses] == ["initialization"]
    assert result.reason.endswith(
        "is left out: its rows are of other weights than the stored ones; resnet-lab-analyze recomputes them."
    )
    assert "of other weights than the stored ones" in write_report([run.directory], tmp_path / "r").read_text()
    assert analyze(f"runs={run.directory}", "analysis=signals") == 0
    assert len(read_run(run.directory).analyses) == 2


DAMAGES: list[dict[str, Any]] = [
    *({"file": "../record.json"}, {"file": 7}, {"sha256": "0"}, {"plot": {"kind": "line"}}, {"plot": []}),
    *({"settings": []}, {"settings": {"at": []}}, {"analysis": "../a"}, {"plot": {"x": "layer", "y": "name"}}),
]


def test_a_damaged_entry_spoils_nothing_else(run: Run, tmp_path: Path) -> None:
    assert analyze(f"runs={run.directory}", "analysis=signals", "analysis.images=8") == 0
    path = run.directory / "analyses.json"
    first, *others = json.loads(path.read_text())
    for damage in DAMAGES:
        path.write_text(json.dumps([first | damage, *others]))
        (result,) = read_results([run.directory]).results
        assert (len(result.analyses), result.status) == (1, "completed"), damage
        assert "is left out: " in result.reason
    written = write_report([run.directory], tmp_path / "report")
    assert "is left out: " in written.read_text()
    committed = written.with_name("runs.jsonl")
    committed.write_text(committed.read_text().replace('"columns": ["layer"', '"columns": [7'))
    (result,) = read_results([written.parent], read_committed).results
    assert result.status == "unreadable"


MINE = """
def mean_pixel(net, data, part="test"):
    pixels = next(data.batches(part))[0]
    return [{"channel": c, "mean": float(m)} for c, m in enumerate(pixels.mean((0, 2, 3)))]
"""


def test_an_analysis_of_ones_own_is_a_function_and_a_yaml(
    resnet_lab: Call, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "_admitted", [])
    package, conf = tmp_path / "mine/my_nets", tmp_path / "mine/conf/analysis"
    package.mkdir(parents=True)
    conf.mkdir(parents=True)
    (package / "__init__.py").write_text(MINE)
    (conf / "pixels.yaml").write_text("_target_: my_nets.mean_pixel\nplot: {kind: bars, x: channel, y: mean}\n")
    monkeypatch.syspath_prepend(tmp_path / "mine")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "mine"), prepend=":")
    words = ["--config-dir", str(conf.parent), f"runs={run.directory}", "analysis=pixels"]
    refused = resnet_lab("analyze", *words)
    assert "analysis._target_ must be one of the analyses of resnet_lab.analyses, got 'my_nets." in refused.stderr
    done = resnet_lab("analyze", "--trust-package", "my_nets", *words)
    assert done.returncode == 0, done.stderr
    write_report([run.directory], tmp_path / "report")
    assert len(rows_of(tmp_path / "report/analysis-pixels.csv")) == 3


def test_a_sweep_analyzes_its_runs_before_it_reports(resnet_lab: Call, tmp_path: Path) -> None:
    sweep = ("train", "-m", *TINY, "seed=0,1", "analyses=[responses]")
    ended = resnet_lab(*sweep)
    assert ended.returncode == 0, ended.stderr
    assert "analysis responses of 2 runs" in ended.stdout
    rows = sorted(tmp_path.glob("outputs/default/*/seed*/analyses/responses-*.csv"))
    assert len(rows) == 2
    assert (tmp_path / "outputs/default/analysis-responses.png").exists()
    before = [path.stat().st_mtime_ns for path in rows]
    assert resnet_lab(*sweep).returncode == 0
    assert [path.stat().st_mtime_ns for path in rows] == before
    # what an analysis asks for is no part of a run's identity
    assert resnet_lab(*sweep[:-1]).returncode == 0
    assert len(list(tmp_path.glob("outputs/default/*/seed*"))) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-m", "seed=0,1", "analyses=[respones]"), "analyses: analysis=respones does not exist; did you mean"),
        (("analyses=[responses]",), "analyses belong to a sweep with hydra/launcher=pool or slurm: add -m"),
        (("-m", "seed=0,1", "analyses=responses"), "analyses must be a list of names in conf/analysis"),
        (
            ("-m", "seed=0,1", "analyses=[{signals:{image:8}}]"),
            "analyses: analysis.image is not a key of the config; did you mean",
        ),
        (("-m", "seed=0,1", "analyses=[{signals:{images:few}}]"), "analysis.images must be an integer, got 'few'"),
        (("-m", "seed=0,1", "analyze_at=[7]"), "analyze_at has iteration 7, and there are 6 iterations"),
        (("-m", "seed=0,1", "analyze_at=[first]"), "analyze_at must be null or a list of iterations, such as"),
        (("iterations=0", "job=throughput"), "iterations=0 leaves job=throughput nothing to do"),
    ],
)
def test_analyses_that_cannot_be_made_are_refused_first(
    resnet_lab: Call, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    ended = resnet_lab("train", *TINY, *words)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert not (tmp_path / "outputs").exists()


def test_another_launcher_leaves_no_analysis_out_in_silence(resnet_lab: Call, tmp_path: Path) -> None:
    ended = resnet_lab("train", *TINY, "-m", "hydra/launcher=basic", "seed=0,1", "analyses=[responses]")
    assert ended.returncode == 1
    assert "analyses belong to a sweep with hydra/launcher=pool or slurm" in ended.stderr
    assert not list(tmp_path.rglob("record.json"))  # Hydra's own file is there already


@pytest.mark.slow
def test_a_plane_that_was_killed_is_resumed_where_it_was(run: Run) -> None:
    words = [f"runs={run.directory}", "analysis=landscape", "analysis.images=20", "analysis.points=33"]
    process = subprocess.Popen(python("resnet_lab.analyze", *words), stdout=subprocess.DEVNULL)
    folder = run.directory / "analyses"
    deadline = time.monotonic() + 60
    while not any(len(path.read_text().splitlines()) > 20 for path in folder.glob(".*.unfinished")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    (path,) = folder.glob(".*.unfinished")
    kept = [json.loads(line) for line in path.read_text().splitlines()[1:-1]]
    assert 10 < len(kept) < 33 * 33
    # a row that no net has: only a resumed analysis can have it
    marked = [json.dumps(row | {"loss": 12345.0}) for row in kept]
    path.write_text("\n".join([path.read_text().splitlines()[0], *marked]) + "\n")
    assert analyze(*words) == 0
    (written,) = files(run)
    rows = rows_of(written)
    assert [row["loss"] == "12345.0" for row in rows] == [number < len(kept) for number in range(33 * 33)]


def test_what_is_kept_of_other_weights_is_not_resumed(run: Run) -> None:
    folder = run.directory / "analyses"
    folder.mkdir()
    words = [f"runs={run.directory}", "analysis=landscape", "analysis.images=20", "analysis.points=3"]
    assert analyze(*words) == 0
    (written,) = files(run)
    row = dict.fromkeys(rows_of(written)[0], 1.0)
    (folder / f".{written.stem}.unfinished").write_text('{"weights": "other"}\n' + json.dumps(row) + "\n")
    assert analyze(*words, "force=true") == 0
    assert files(run) == [written]
    assert rows_of(written)[0]["loss"] != "1.0"


def test_runs_are_analyzed_side_by_side_as_one_after_the_other(resnet_lab: Call, run: Run, tmp_path: Path) -> None:
    words = ("analysis=responses", "analysis.images=20")
    assert analyze(f"runs={run.directory}", *words) == 0
    expected = [path.read_text() for path in files(run)]
    for seed in (1, 2):
        shutil.copytree(run.directory, run.directory.with_name(f"seed{seed}"))
    done = resnet_lab("analyze", f"runs={run.directory.parent}", *words, "jobs=2", "force=true")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": written") == 3
    for path in run.directory.parent.glob("seed*"):
        assert [file.read_text() for file in files(Run(path))] == expected


def test_a_line_from_the_first_weights_to_the_last(run: Run) -> None:
    words = [f"runs={run.directory}", "analysis=interpolation", "analysis.images=20", "analysis.points=3"]
    assert analyze(*words) == 0
    (path,) = files(run)
    assert [row["share"] for row in rows_of(path)] == ["0.0", "0.5", "1.0"]
    with pytest.raises(UserError, match="give runs=PATH"):
        analyze("analysis=interpolation", *NET)
    with pytest.raises(UserError, match=r"analysis.initial is set by the lab; leave it out"):
        analyze(f"runs={run.directory}", "analysis=interpolation", "+analysis.initial=1", "force=true")


def test_jobs_are_a_positive_number() -> None:
    with pytest.raises(UserError, match="jobs must be a positive integer, got 0"):
        analyze("runs=.", "analysis=responses", "jobs=0")


@pytest.mark.slow
def test_a_sweep_analyzes_with_settings_at_chosen_iterations(resnet_lab: Call, tmp_path: Path) -> None:
    words = ("analyses=[{signals:{images:8,plot:{kind:bars}}}]", "analyze_at=[0,2,last]")
    ended = resnet_lab("train", "-m", *TINY, "seed=0", *words)
    assert ended.returncode == 0, ended.stderr
    (run,) = (Run(path.parent) for path in tmp_path.glob("outputs/default/*/seed0/record.json"))
    noted = {entry["settings"]["at"]: entry for entry in entries(run.directory / "analyses.json")}
    assert {at: entry["iteration"] for at, entry in noted.items()} == {"initialization": 0, 2: 2, "last": 6}
    assert noted[2]["weights"] == digest_of(run.kept_path(2))
    assert (noted[2]["settings"]["images"], noted[2]["plot"]["kind"]) == (8, "bars")
    shown = (tmp_path / "outputs/default/analysis-signals.svg").read_text()
    assert all(title in shown for title in (">at initialization<", ">after 2 iterations<", ">trained<"))
    # the same as of a training that ends there
    shorter = resnet_lab("train", *TINY, "iterations=2", "schedule.milestones=[3,4]", "experiment_name=shorter")
    assert shorter.returncode == 0, shorter.stderr
    (other,) = (path.parent for path in tmp_path.glob("outputs/shorter/*/seed0/record.json"))
    assert analyze(f"runs={other}", "analysis=signals", "analysis.images=8", "analysis.at=last") == 0
    assert rows_of(files(Run(other))[0]) == rows_of(run.directory / "analyses" / noted[2]["file"])


def test_weights_that_were_not_kept_are_asked_for(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert analyze(f"runs={run.directory}", "analysis=signals", "analysis.at=[4]") == 1
    assert "it has no weights of iteration 4; train it again with analyze_at=[4]" in capsys.readouterr().out
    assert files(run) == []
    assert analyze(f"runs={run.directory}", "analysis=signals", "analysis.at=[4,last]") == 1
    assert len(files(run)) == 1, "what is there is analyzed all the same"


def test_rows_are_of_a_run_and_not_of_any_of_its_checkpoints(run: Run) -> None:
    last = run.checkpoint_path
    assert analyze(f"runs={last}", "analysis=responses") == 0
    (path,) = files(run)
    rows = path.read_bytes()
    kept = shutil.copy(last, run.kept_path(2))
    with pytest.raises(UserError, match=rf"runs={run.directory}; of the weights that analyze_at kept it is by"):
        analyze(f"runs={kept}", "analysis=responses", "force=true")
    assert path.read_bytes() == rows


@pytest.mark.slow
def test_a_net_at_initialization_is_a_run_of_no_iterations(resnet_lab: Call, tmp_path: Path) -> None:
    sweep = ("train", "-m", *TINY, "seed=0,1", "iterations=0", "analyses=[signals]")
    for _ in range(2):  # the second time everything is there
        ended = resnet_lab(*sweep)
        assert ended.returncode == 0, ended.stderr
    runs = [Run(path.parent) for path in tmp_path.glob("outputs/default/*/seed*/record.json")]
    assert [(run.is_complete(), len(files(run)), run.has_checkpoint()) for run in runs] == 2 * [(True, 1, False)]
    report = tmp_path / "outputs/default"
    assert (report / "analysis-signals.png").exists()
    evaluated = resnet_lab("eval", "runs=outputs/default")
    assert evaluated.returncode == 0
    assert evaluated.stdout.count("a net at initialization, nothing to evaluate") == 2
    assert not (report / "curves.png").exists()
    assert "| plain-8 |" in (report / "report.md").read_text()
    assert len(rows_of(report / "analysis-signals.csv")) == 2 * len(rows_of(files(runs[0])[0]))
