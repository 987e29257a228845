"""Runs that are killed, stopped and starved end as those that were left alone.

The quick form is among the slow tests; most of its processes are forked from one that has imported torch. In
the full form, `pytest -m chaos --figures FILE`, those that are killed, stopped or stalled are fresh. It adds a
line to FILE for each case; experiments/reliability shows them.
"""

import atexit
import contextlib
import csv
import itertools
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from runs import curve, only_run, points, start, wait_for_rows, wait_until_free, weights

from resnet_lab.runs.directory import Run
from resnet_lab.runs.nursery import Requested
from resnet_lab.training.checkpoint import VerifiedCheckpointIO, newest_whole, read_checkpoint

Note = Callable[[str, str, int, float], None]
Calm = Callable[..., Path]

# epochs of 100 iterations, a fraction of a second each, with evaluations and checkpoints inside
STORMY = (
    *("data.train_images=1600", "data.crop_padding=2", "data.flip=true", "trainer.val_check_interval=0.25"),
    *("runtime.save_every=1", "runtime.timeout=20", "optimizer.lr=0.05"),
)
TWO = ("trainer=ddp_cpu",)
ALONE = "iterations=600"


@cache
def not_staged() -> dict[str, str]:
    """Checkpoints must not be staged where temporary files are; here, that is another filesystem."""
    folder = tempfile.mkdtemp(prefix="lab-", dir="/dev/shm")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # supervisors that are killed leave theirs
    return {"TMPDIR": folder}


def launch(folder: Path, *settings: str, fresh: bool = False) -> subprocess.Popen[bytes] | Requested:
    return start(folder, *STORMY, *settings, environ=not_staged(), session=True, fresh=fresh)


def quick(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.slow)


def full(*values: object) -> object:
    return pytest.param(*values, marks=pytest.mark.chaos)


class Storm:
    """Starts one run again and again, each time in a session of its own, by which it finds its processes."""

    def __init__(self, folder: Path, *overrides: str, fresh: bool) -> None:
        self.folder, self.overrides, self.fresh = folder, overrides, fresh
        self.process: subprocess.Popen[bytes] | Requested | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> subprocess.Popen[bytes] | Requested:
        self.process = launch(self.folder, *self.overrides, fresh=self.fresh)
        return self.process

    def go_on_to_the_end(self) -> None:
        assert launch(self.folder, *self.overrides).wait() == 0

    def processes(self) -> list[int]:
        """Those of the run that are alive, in the order of their birth."""
        assert self.process is not None
        return [process for process, _ in alive(self.process.pid)]

    def workers(self) -> list[int]:
        """The training processes, first the one that writes."""
        assert self.process is not None
        return [process for process, parent in alive(self.process.pid) if parent == self.process.pid]

    def seconds_until_gone(self) -> float:
        """Wait until no process of the run is left."""
        began = time.monotonic()
        while self.processes():
            assert time.monotonic() - began < 60, "processes are left"
            time.sleep(0.05)
        seconds = time.monotonic() - began
        assert self.process is not None
        self.process.wait()
        return seconds

    def progress(self, rows: int) -> bool:
        """Wait for so many more evaluations; False if the run ended before."""
        assert self.process is not None
        target = self.rows() + rows
        while self.rows() < target:
            if self.process.poll() is not None:
                return False
            time.sleep(0.01)
        return True

    def rows(self) -> int:
        found = list(self.folder.glob("outputs/*/*/seed*"))
        return len(Run(found[0]).metrics()) if found else 0


def alive(session: int) -> list[tuple[int, int]]:
    """The processes of a session, each with its parent."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent, _, its_session, *_ = path.read_text().rpartition(")")[2].split()
            if int(its_session) == session and state != "Z":
                found.append((int(path.parent.name), int(parent)))
    return sorted(found)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """The folder of a run of the same settings that is left alone."""

    @cache
    def left_alone(*settings: str) -> Path:
        folder = tmp_path_factory.mktemp("calm")
        assert launch(folder, *settings).wait() == 0
        return folder

    return left_alone


def assert_same(storm: Path, calm: Path) -> None:
    """Every logged value and every weight, bit for bit."""
    stormy, left_alone = only_run(storm), only_run(calm)
    assert stormy.status() == left_alone.status() == "completed"
    assert curve(stormy) == curve(left_alone)
    facts = ("train_error", "train_error_clean", "val_error", "test_error", "train_loss")
    assert [stormy.record()[f] for f in facts] == [left_alone.record()[f] for f in facts]
    for name, tensor in weights(left_alone).items():
        assert torch.equal(tensor, weights(stormy)[name]), name
    assert points(stormy) == points(left_alone)


@pytest.mark.parametrize(
    ("kills", "settings", "fresh"),
    [
        quick(5, (*TWO, "data.num_workers=2"), False),
        full(13, (), True),
        full(13, ("data.num_workers=2",), True),
        full(12, TWO, True),
        full(12, (*TWO, "data.num_workers=2"), True),
    ],
)
def test_random_kills_change_nothing(
    tmp_path: Path, calm: Calm, kills: int, settings: tuple[str, ...], fresh: bool, figure: Note
) -> None:
    """kill -9 of any process of the run, at any time."""
    settings = (*settings, f"iterations={(150 if fresh else 100) * kills}")
    dice = random.Random(kills)
    storm = Storm(tmp_path, *settings, fresh=fresh)
    done = 0
    while done < kills:
        process = storm.start()
        if dice.random() < 0.2:  # while it starts
            time.sleep(dice.uniform(0.5, 6) if fresh else dice.uniform(0, 1))
        elif not storm.progress(dice.randint(1, 6)):
            process.wait()
            break
        else:
            time.sleep(dice.uniform(0, 0.3))
        with contextlib.suppress(ProcessLookupError):
            os.kill(dice.choice(storm.processes() or [process.pid]), signal.SIGKILL)
            done += 1
        storm.seconds_until_gone()
        assert process.wait() != 75
        assert newest_whole_or_none(storm.folder)
    assert done >= kills // 2
    storm.go_on_to_the_end()
    assert_same(storm.folder, calm(*settings))
    figure("1", f"kill -9 of a random process, {' '.join(settings)}", done, 0)


def newest_whole_or_none(folder: Path) -> bool:
    """Whether the last checkpoint can be read, or none was written yet."""
    paths = list(folder.glob("outputs/*/*/seed*/checkpoints/last.ckpt"))
    return all(read_checkpoint(path) is not None for path in paths)


@pytest.mark.parametrize(("kills", "fresh"), [quick(2, False), full(20, True)])
def test_group_sigterms_end_it_in_time_and_change_nothing(
    tmp_path: Path, calm: Calm, kills: int, fresh: bool, figure: Note
) -> None:
    settings = (*TWO, "data.num_workers=2", f"iterations={150 * kills}")
    dice = random.Random(kills)
    storm = Storm(tmp_path, *settings, fresh=fresh)
    longest = 0.0
    for number in range(kills):
        process = storm.start()
        if number % 5 == 4:  # while it starts
            time.sleep(dice.uniform(0.5, 6))
        else:
            assert storm.progress(dice.randint(1, 6))
        os.killpg(process.pid, signal.SIGTERM)
        longest = max(longest, storm.seconds_until_gone())
        assert process.wait() in (75, -signal.SIGTERM)  # the latter before our handlers are there
    assert longest < 30
    storm.go_on_to_the_end()
    assert_same(storm.folder, calm(*settings))
    figure("4", "SIGTERM to the group of two processes with two loaders each", kills, longest)


@pytest.mark.parametrize("deaths", [quick(1), full(6)])
def test_a_dead_process_ends_the_others_with_the_reason(tmp_path: Path, deaths: int, figure: Note) -> None:
    storm = Storm(tmp_path, *TWO, "iterations=100000", fresh=True)
    longest = 0.0
    for number in range(deaths):
        process = storm.start()
        assert storm.progress(2)
        os.kill(storm.workers()[number % 2 == 0], signal.SIGKILL)
        longest = max(longest, storm.seconds_until_gone())
        assert process.wait() == 1
        record = only_run(tmp_path).record()
        assert record["status"] == "failed"
        assert f"process {int(number % 2 == 0)} was killed (SIGKILL)" in record["error"]
    assert longest < 30
    figure("4", "one of two processes killed", deaths, longest)


@pytest.mark.parametrize(
    ("asked", "timeout", "fresh"), [quick(False, 10, False), full(False, 20, True), full(True, 20, True)]
)
def test_a_stalled_process_does_not_hang_the_run(
    tmp_path: Path, asked: bool, timeout: int, fresh: bool, figure: Note
) -> None:
    """With a request to stop within the grace, else within the timeout and the grace."""
    storm = Storm(tmp_path, *TWO, "iterations=100000", f"runtime.timeout={timeout}", fresh=fresh)
    process = storm.start()
    assert storm.progress(2)
    os.kill(storm.workers()[1], signal.SIGSTOP)
    if asked:
        process.terminate()
    seconds = storm.seconds_until_gone()
    assert process.wait() == (75 if asked else 1)
    assert only_run(tmp_path).status() == ("interrupted" if asked else "failed")
    assert seconds < (30 if asked else 50)
    how = ", then SIGTERM" if asked else f", timeout {timeout} s"
    figure("4", f"one of two processes stalled{how}", 1, seconds)


@pytest.mark.parametrize(("kills", "deaths", "fresh"), [quick(2, 1, False), full(20, 5, True)])
def test_a_sweep_that_is_killed_runs_each_job_once(
    tmp_path: Path, calm: Calm, kills: int, deaths: int, fresh: bool, figure: Note
) -> None:
    """kill -9 of the sweep, and of single jobs, which harms no other job."""
    settings = ("hydra.mode=MULTIRUN", "seed=0,1,2,3", f"iterations={100 * (kills + deaths)}")
    storm = Storm(tmp_path, *settings, fresh=fresh)
    dice = random.Random(kills)
    for number in range(kills):
        process = storm.start()
        wait_for_any_row(storm, dice.randint(1, 4))
        if number < deaths:
            os.kill(dice.choice([p for p in storm.processes() if p != process.pid]), signal.SIGKILL)
            time.sleep(dice.uniform(0, 1))
        process.send_signal(signal.SIGKILL)
        storm.seconds_until_gone()
    storm.go_on_to_the_end()
    for run in (Run(path.parent) for path in calm(*settings).glob("outputs/*/*/seed*/record.json")):
        twin = Run(storm.folder / run.directory.relative_to(calm(*settings)))
        assert curve(twin) == curve(run)
        assert all(torch.equal(tensor, weights(twin)[name]) for name, tensor in weights(run).items())
    figure("10", f"kill -9 of a sweep of four, and of {deaths} of its jobs' processes", kills, 0)


def wait_for_any_row(storm: Storm, rows: int) -> None:
    before = total_rows(storm.folder)
    while total_rows(storm.folder) < before + rows:
        assert storm.process is not None
        if storm.process.poll() is not None:
            return
        time.sleep(0.01)


def total_rows(folder: Path) -> int:
    return sum(len(Run(path.parent).metrics()) for path in folder.glob("outputs/*/*/seed*/metrics.csv"))


@pytest.mark.parametrize("launches", [quick(6), full(20)])
def test_many_launches_at_once_are_one_run(tmp_path: Path, calm: Calm, launches: int, figure: Note) -> None:
    started = [launch(tmp_path, ALONE) for _ in range(launches)]
    codes = [process.wait() for process in started]
    # one runs; others find it in use, or complete if they come late
    assert codes.count(0) >= 1
    assert set(codes) <= {0, 1}
    assert_same(tmp_path, calm(ALONE))
    assert len(list(only_run(tmp_path).directory.glob("events*"))) == 1
    figure("10", "launches of one run at once", launches, 0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MiB."""
    if os.getuid() != 0:
        pytest.skip("to mount a small filesystem needs root")
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    try:
        wait_until_free(*(Run(path.parent) for path in folder.glob("outputs/*/*/seed*/.lock")))
    finally:  # whoever uses it yet
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path, leave: int) -> None:
    """Take all space of its filesystem but so many bytes."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(path, max(0, path.stat().st_size - leave))


@pytest.mark.parametrize("offsets", [quick(20), full(20)])
def test_a_save_that_finds_no_space_leaves_the_one_before(
    disk: Path, tmp_path: Path, offsets: int, figure: Note
) -> None:
    path = disk / "last.ckpt"
    for number in range(offsets):
        path.unlink(missing_ok=True)
        save(path, 1)
        size = path.stat().st_size
        fill(disk / "filler", leave=size * number // offsets)
        with pytest.raises(OSError, match="No space left"):
            save(path, 2)
        (disk / "filler").unlink()
        found = newest_whole(path)
        assert found is not None
        assert found[1]["global_step"] == 1
        assert {file.name for file in disk.iterdir()} == {"last.ckpt"}
    figure("2", "no space left in a save, at so many offsets", offsets, 0)


@pytest.mark.parametrize("tensors", [quick(10), full(99)])
def test_a_flipped_bit_in_any_tensor_is_found(tmp_path: Path, calm: Calm, tensors: int, figure: Note) -> None:
    """And the checkpoint before taken."""
    path = only_run(shutil.copytree(calm(ALONE), tmp_path / "copy")).checkpoint_path
    whole = path.read_bytes()
    checkpoint = read_checkpoint(path)
    assert checkpoint is not None
    states = [checkpoint["state_dict"], *checkpoint["optimizer_states"][0]["state"].values()]
    contents = [bytes(t.untyped_storage().tolist()) for state in states for t in state.values() if t is not None]
    # short ones, and those of zeros, are at many places: any of these will do
    places = sorted({whole.index(content) for content in contents})
    for place in places[:tensors]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert read_checkpoint(path) is None
        found = newest_whole(path)
        assert found is not None
        assert found[0] != path
    figure("2", "a bit flipped in each tensor of a checkpoint", len(places[:tensors]), 0)


@pytest.mark.parametrize("evaluations", [quick(1), quick(9), full(1), full(9)])
def test_a_full_disk_fails_the_run_and_loses_nothing(
    disk: Path, calm: Calm, evaluations: int, figure: Note
) -> None:
    """Before the first checkpoint, and beside those that are there."""
    process = launch(disk, ALONE)
    wait_for_rows(disk, evaluations)
    fill(disk / "filler", leave=0)
    assert process.wait() == 1
    record = only_run(disk).record()
    assert record["status"] == "failed"
    assert "no space left" in record["error"]
    assert "free some" in record["error"]
    (disk / "filler").unlink()
    assert launch(disk, ALONE).wait() == 0
    assert_same(disk, calm(ALONE))
    figure("2", f"the disk full after evaluation {evaluations}", 1, 0)


def save(path: Path, step: int) -> None:
    state = {"global_step": step, "weights": torch.full((50_000,), float(step))}
    VerifiedCheckpointIO().save_checkpoint(state, path)


def save_for_ever(path: Path) -> None:
    for step in itertools.count(2):
        save(path, step)
        path.with_name("step").write_text(str(step))


@pytest.mark.parametrize("kills", [quick(10), full(50)])
def test_a_kill_in_a_save_leaves_a_whole_checkpoint_at_most_one_behind(
    tmp_path: Path, kills: int, figure: Note, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", "/dev/shm")
    dice = random.Random(kills)
    path = tmp_path / "last.ckpt"
    save(path, 1)
    (tmp_path / "step").write_text("1")
    for _ in range(kills):
        child = os.fork()
        if child == 0:
            save_for_ever(path)
        time.sleep(dice.uniform(0.02, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = newest_whole(path)
        assert found is not None
        step = int((tmp_path / "step").read_text() or 0)
        assert found[1]["global_step"] >= step
        assert torch.equal(found[1]["weights"], torch.full((50_000,), float(found[1]["global_step"])))
    figure("2", "kill -9 in a save, TMPDIR on another filesystem", kills, 0)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Note:
    """Adds a line to the file of --figures: promise, what was done, how often, longest seconds to the end."""
    path = request.config.getoption("--figures")

    def note(promise: str, what: str, times: int, seconds: float) -> None:
        if path:
            with Path(path).open("a", newline="") as file:
                csv.writer(file).writerow([promise, what, times, round(seconds, 1) or ""])

    return note
