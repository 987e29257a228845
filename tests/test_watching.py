"""What is seen of runs while they train: on a terminal, in a pipe, in a sweep's table."""

import contextlib
import logging
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import TINY
from runs import only_run, start, wait_for_rows

from resnet_lab.runs import bar
from resnet_lab.runs.directory import Run
from resnet_lab.runs.progress import Progress, ProgressFile, read_progress
from resnet_lab.runs.worker import execute
from resnet_lab.sweeps.outlook import Outlook
from resnet_lab.sweeps.pool import LocalJob
from resnet_lab.training import watching
from resnet_lab.training.watching import Pace

Call = Callable[..., subprocess.CompletedProcess[str]]
Composed = Callable[..., dict[str, Any]]
Tiny = Callable[..., tuple[Run, dict[str, Any]]]

# a second or more, four epochs
SECONDS = ("data.train_images=1200", "iterations=300")
DOING = r"(\S+ images/s|validating \d+ %|testing \d+ %|final pass \d+ %)"
BAR = re.compile(rf"[━─]+ (\d+)/300 train error (\S+) %, val (\S+) %, {DOING}(, (\S+) (s )?left)?")
PROGRESS = Progress(30, 100, 12.5, None, 800.0, 90.0)


def on_terminal(folder: Path, *arguments: str, until: str = "", columns: int = 120) -> tuple[int, str]:
    """What `resnet-lab` shows on a terminal, and its exit code; the terminal is closed once `until` was shown."""
    master, slave = os.openpty()
    environ = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": str(columns), "TERM": "xterm"}
    process = forked.begin(folder, "hasty", *arguments, environ=environ, session=True, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # how the end of a terminal is told
        while (more := os.read(master, 1 << 16)) and not (until and until.encode() in shown):
            shown += more
    os.close(master)
    return process.wait(120), shown.decode()


def test_a_run_shows_what_it_is_and_one_bar_to_its_end(tmp_path: Path) -> None:
    code, shown = on_terminal(tmp_path, *TINY, *SECONDS)
    assert code == 0, shown
    run = only_run(tmp_path)
    header, _, rest = shown.partition("─")
    lines = [line[9:] for line in re.split(r"[\r\n]+(?:\x1b\[K)?", header) if line]
    assert lines[:6] == [
        "reading the images of Synthetic",
        f"plain-8, seed 0: {run.record()['parameters']:,} parameters",
        f"folder: {run.directory}",
        "Synthetic: 1,200 training images, 21 validation images (the test images)",
        "cpu: 1 thread",
        "300 iterations, 75 an epoch",
    ]
    drawn = [BAR.search(line) for line in shown.split(bar.CLEAR) if line[:1] in ("━", "─")]
    assert None not in drawn
    iterations = [int(line[1]) for line in drawn if line]
    assert iterations == sorted(iterations)
    assert iterations[0] == 0
    assert iterations[-1] > 75
    first, last = drawn[0], drawn[-1]
    assert first
    assert last
    assert first.groups()[1:4] == ("—", "—", "— images/s")
    assert "—" not in last[0]
    assert bar.CLEAR in rest
    assert f"{run.record_path}" in shown.splitlines()[-1]
    assert "iteration 75/300: train error" not in shown
    assert "iteration 75/300: train error" in run.log_path.read_text()


def test_a_run_outlives_its_terminal(tmp_path: Path) -> None:
    code, _ = on_terminal(tmp_path, *TINY, *SECONDS, until="/300")
    assert code == 0
    assert only_run(tmp_path).status() == "completed"


@pytest.mark.parametrize("sweep", [(), ("hydra.mode=MULTIRUN", "seed=0,1")])
def test_runs_outlive_the_reader_of_a_pipe(tmp_path: Path, sweep: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    files = {"stdout": writer, "stderr": writer}
    process = forked.begin(tmp_path, "resnet_lab.train", *TINY, *sweep, environ=os.environ, session=False, **files)
    os.close(writer)
    assert process.wait(120) == 0
    runs = [Run(path.parent) for path in tmp_path.glob("outputs/*/*/seed*/record.json")]
    assert [run.status() for run in runs] == ["completed"] * (2 if sweep else 1)


def test_a_pipe_is_told_what_begins_and_how_far_it_is_now_and_then(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(watching, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(watching, "SAY_EVERY", 0.0)
    shown: list[Progress | None] = []
    show = ProgressFile.show

    def noted(self: ProgressFile, progress: Progress) -> None:
        show(self, progress)
        shown.append(read_progress(self.path))

    monkeypatch.setattr(ProgressFile, "show", noted)
    run, config = tiny()
    assert execute(run, config) == 0
    assert not list(run.directory.glob(".*progress*"))
    told = [re.sub(r"\d+\.\d\d|(?<= )\d+(?= (images/s|s left))", "N", said.message) for said in caplog.records]
    assert told[6:11] == [
        "iteration 0/6: train error — %, val — %, — images/s, — left",
        "iteration 1/6: train error N %, val — %, — images/s, — left",
        "iteration 2/6: train error N %, val — %, N images/s, N s left",
        "iteration 3/6: train error N %, val — %, N images/s, N s left",
        "iteration 3/6: train error N %, val — %, validating 100 %, N s left",
    ]
    assert told[-5:-1] == [
        "testing on 21 images",
        "iteration 6/6: train error N %, val N %, testing 100 %",
        "final pass over 40 training images, not augmented",
        "iteration 6/6: train error N %, val N %, final pass 100 %",
    ]
    assert shown[0] == Progress(0, 6)
    assert shown[-1] is not None
    assert (shown[-1].iteration, shown[-1].seconds_left) == (6, 0.0)


def test_a_resumed_run_says_from_where(tmp_path: Path, resnet_lab: Call) -> None:
    process = start(tmp_path, "iterations=300")
    run = wait_for_rows(tmp_path, 2)  # the checkpoint of the first row is written by then
    process.send_signal(signal.SIGKILL)  # which leaves what it may
    process.wait()
    run.progress_path.write_text("{")
    ended = resnet_lab("train", *TINY, "iterations=300")
    assert ended.returncode == 0, ended.stderr
    found = re.search(r"300 iterations, 3 an epoch, resumed from (\d+) \(saved (\S+ \d\d:\d\d)\)", ended.stderr)
    assert found
    assert int(found[1]) % 3 == 0
    assert not list(run.directory.glob(".*progress*"))


def test_compiling_is_told(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("torch.nn.Module.compile", lambda self: None)  # which takes a minute
    assert execute(*tiny("runtime.compile=true")) == 0
    assert "compiling the net in the first iteration" in caplog.text


@pytest.mark.parametrize("override", ["optimizer.lr=1e30", "iterations=5"])
def test_a_run_that_ends_early_leaves_no_progress_behind(tiny: Tiny, override: str) -> None:
    run, config = tiny(override)
    execute(run, config)
    assert not list(run.directory.glob(".*progress*"))


def test_progress_that_cannot_be_written_is_not_shown(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path / "missing" / ".progress.json")
    file.show(PROGRESS)
    file.close()
    assert read_progress(file.path) is None


@pytest.mark.parametrize(
    "content",
    ["", "[]", "[" * 5000, "null", '{"iteration": 1}', '{"iteration": "x"}', "NaN", "1e999"],
)
def test_a_file_that_no_run_wrote_is_no_progress(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    assert read_progress(tmp_path / "file") is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-1", "1" * 400, '"x"', "[]"])
def test_numbers_that_no_run_wrote_are_no_progress(tmp_path: Path, value: str) -> None:
    file = ProgressFile(tmp_path / "file")
    file.show(PROGRESS)
    assert read_progress(file.path) == PROGRESS
    file.path.write_text(file.path.read_text().replace("90.0", value))
    assert read_progress(file.path) is None


def test_the_time_left_is_from_what_was_lately_and_counts_evaluations() -> None:
    pace = Pace(evaluated=0)
    assert pace.seconds_left(10) is None
    for second in range(20):  # an iteration a second
        pace.note(second, float(second))
    assert pace.seconds_left(10) == pytest.approx(10)
    pace.pause(20, 20.0)
    pace.go_on(30.0)  # half a second for each of 20 iterations
    assert pace.seconds_left(10) == pytest.approx(15)
    for second in range(40):  # then ten a second
        pace.note(20 + 10 * second, 30.0 + second)
    assert pace.iteration_seconds() == pytest.approx(0.1)
    pace.pause(pace.evaluated, 70.0)  # one that is repeated
    pace.go_on(1000.0)
    assert pace.seconds_left(10) == pytest.approx(6)


@pytest.mark.parametrize("columns", [20, 80, 200])
def test_the_bar_fits_its_terminal(columns: int) -> None:
    drawn = bar.line(PROGRESS._replace(val_error=50.0), columns)
    assert len(drawn) < columns
    assert drawn.count("━") == (drawn.count("━") + drawn.count("─")) * 30 // 100
    if columns >= 80:
        assert drawn.endswith(" 30/100 train error 12.50 %, val 50.00 %, 800 images/s, 1 min left")


def jobs_of(composed: Composed, *statuses: str) -> list[LocalJob]:
    jobs = [LocalJob(composed(*TINY, "iterations=100", f"seed={seed}")) for seed in range(len(statuses))]
    for job, status in zip(jobs, statuses, strict=True):
        job.run.directory.mkdir(parents=True)
        job.status = status
    return jobs


def test_the_time_left_for_a_sweep_is_that_of_all_its_jobs(composed: Composed) -> None:
    jobs = jobs_of(composed, "running", "running", "waiting", "completed")
    outlook = Outlook(jobs)
    outlook.look()
    assert outlook.seconds_left() is None
    ProgressFile(jobs[0].run.progress_path).show(Progress(50, 100, seconds_left=50.0))
    outlook.look()
    assert outlook.seconds_left() == pytest.approx((50 + 100 + 100) / 2)
    ProgressFile(jobs[1].run.progress_path).show(Progress(0, 100, seconds_left=300.0))
    outlook.look()
    assert outlook.seconds_left() == pytest.approx(300)  # nothing ends before its longest job
    for job in jobs:
        job.status = "completed"
    assert outlook.seconds_left() == 0
    outlook.look()
    assert outlook.of == {}  # whatever files there are


def test_the_table_of_a_sweep_moves_between_evaluations(tmp_path: Path) -> None:
    code, shown = on_terminal(tmp_path, *TINY, *SECONDS, "hydra.mode=MULTIRUN", "seed=0,1")
    assert code == 0, shown
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    rows = [line for line in plain.splitlines() if re.match(r" *plain-8 +[01] +running", line)]
    seen = {int(found[1]) for row in rows if (found := re.search(r" (\d+)/300 +(—|\d+) +(—|\d+ s) ", row))}
    assert seen - {0, 75, 150, 225, 300}, rows
    assert re.search(r"0 of 2 jobs ended, (—|\d+ s) left for all", plain)
    closing = plain[plain.rindex(" net ") :]
    assert "images/s" not in closing
    assert "left for all" not in closing


def test_a_profile_is_written_beside_the_record_and_told(resnet_lab: Any, tmp_path: Path) -> None:
    ended = resnet_lab("train", *TINY, "+trainer.profiler=simple")
    assert ended.returncode == 0, ended.stderr
    run = only_run(tmp_path)
    for part, what in (("fit", "run_training_batch"), ("test", "test_step")):
        path = run.directory / f"{part}-profile.txt"
        assert f"profile: {path}" in ended.stderr
        assert what in path.read_text()
    ended = resnet_lab("train", *TINY, "+trainer.profiler=xla")
    assert "trainer.profiler must be null, simple or advanced, whose reports go beside the record" in ended.stderr
