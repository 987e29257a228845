"""A run that goes on is the run that was begun."""

import hashlib
import io
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import TINY, frozen
from pytorch_lightning import Trainer
from runs import Killed, curve, end_at, execute_interrupted, points, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from resnet_lab.checks import UserError
from resnet_lab.runs.changes import CONDITIONS, find_changes, history
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of_run
from resnet_lab.runs.start import command, prepare
from resnet_lab.runs.worker import execute, explain
from resnet_lab.training.callbacks import Curves, Reseed, SaveLast, Stop
from resnet_lab.training.checkpoint import VerifiedCheckpointIO, newest_whole

Tiny = Callable[..., tuple[Run, dict[str, Any]]]


def completed(config: dict[str, Any]) -> Run:
    run = prepare(config)
    assert run is not None
    assert execute(run, config) == 0
    return run


EPOCHS_OF_7 = ("data.train_images=100", "iterations=17", "data.crop_padding=2")
EVALUATIONS = {
    "an epoch": ("trainer.val_check_interval=1.0",),
    "half an epoch": ("trainer.val_check_interval=0.5",),
    "5 iterations": ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=5"),
}


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run that nothing ended, for each of the EVALUATIONS."""
    runs = {}
    for name, evaluations in EVALUATIONS.items():
        config = frozen(tmp_path_factory.mktemp("whole"), *TINY, *EPOCHS_OF_7, *evaluations)
        runs[name] = completed(config)
    return runs


@pytest.mark.parametrize("how", ["killed", "killed after a save", "asked to stop"])
@pytest.mark.parametrize("evaluations", EVALUATIONS)
@pytest.mark.parametrize("ends", [(1, 6, 8, 16), (3, 5, 7, 12)], ids=str)
def test_ended_at_any_iteration_it_goes_on_exactly(
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
    whole_runs: dict[str, Run],
    how: str,
    evaluations: str,
    ends: tuple[int, ...],
) -> None:
    whole, seconds = whole_runs[evaluations], itertools.count(1_000_000_000)
    # files of events are sorted by the second of their start
    monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: next(seconds)))
    run, config = tiny(*EPOCHS_OF_7, *EVALUATIONS[evaluations])
    execute_interrupted(run, config, ends, how, monkeypatch)
    assert curve(run) == curve(whole)
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(whole).items())
    assert points(run) == points(whole)


@pytest.mark.parametrize(
    "settings",
    [
        ("optimizer=adamw", "schedule=cosine_warmup"),
        ("optimizer=sgd_nesterov", "schedule=one_cycle"),
        ("schedule=chain",),
        ("trainer.precision=bf16-mixed",),
    ],
    ids=["adamw", "one cycle", "chain", "bf16-mixed"],
)
def test_other_optimizers_schedules_and_precisions_resume_exactly(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    whole, config = tiny(*settings, "iterations=8", "experiment_name=whole")
    assert execute(whole, config) == 0
    run, config = tiny(*settings, "iterations=8", "experiment_name=killed")
    config["runtime"]["save_every"] = 0.0
    with monkeypatch.context() as patch:
        end_at(4, "killed after a save", patch)
        with pytest.raises(Killed):
            execute(run, config)
    assert execute(run, config) == 0
    assert curve(run) == curve(whole)
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(whole).items())


def stop_in_evaluation(hook: str, iteration: int, patch: pytest.MonkeyPatch) -> None:
    """Have the next run be asked to stop in the second batch of an evaluation."""
    watched = getattr(Stop, hook)

    def batch_end(
        self: Any, trainer: Trainer, module: Any, outputs: Any, batch: Any, number: int, loader: int = 0
    ) -> None:
        if trainer.global_step == iteration and number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        watched(self, trainer, module, outputs, batch, number, loader)

    patch.setattr(Stop, hook, batch_end)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [((), (7, 17)), (("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=5"), (5, 15, 17))],
    ids=["an epoch", "5 iterations"],
)
def test_an_evaluation_that_is_left_is_begun_anew(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], steps: tuple[int, ...]
) -> None:
    """Inside an epoch, at its end, after the last iteration, and in the closing test; then the same once more."""
    settings = ("data.train_images=100", "iterations=17", "data.eval_batch_size=7", *settings)  # 7 an epoch
    whole, config = tiny(*settings, "experiment_name=whole")
    assert execute(whole, config) == 0
    run, config = tiny(*settings, "experiment_name=left")
    hooks = [("on_validation_batch_end", step) for step in steps] + [("on_test_batch_end", 17)]
    for hook, step in hooks:
        for _ in range(2):
            with monkeypatch.context() as patch:
                stop_in_evaluation(hook, step, patch)
                assert execute(run, config) == 75
            assert run.record()["error"] == f"SIGTERM at iteration {step}; run the same command again to resume"
            found = newest_whole(run.checkpoint_path)
            assert found is not None
            assert found[1]["global_step"] == step
    time.sleep(1 - time.time() % 1)  # files of events are sorted by the second of their start
    assert execute(run, config) == 0
    assert curve(run) == curve(whole)
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(whole).items())
    assert points(run) == points(whole)
    assert all(float(row["images_per_second"]) > 0 for row in run.metrics())


def test_an_evaluation_that_was_repeated_and_lost_is_repeated_again(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked to stop in it, then killed after it was repeated, before the next checkpoint."""
    seconds = itertools.count(1_000_000_000)
    monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: next(seconds)))
    settings = ("data.train_images=100", "iterations=12", "data.eval_batch_size=7")
    settings += ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=5")
    whole, config = tiny(*settings, "experiment_name=whole")
    assert execute(whole, config) == 0
    run, config = tiny(*settings)
    with monkeypatch.context() as patch:
        stop_in_evaluation("on_validation_batch_end", 5, patch)
        assert execute(run, config) == 75
    with monkeypatch.context() as patch:
        end_at(6, "killed", patch)
        with pytest.raises(Killed):
            execute(run, config)
    assert len(run.metrics()) == 1
    assert execute(run, config) == 0
    assert curve(run) == curve(whole)
    assert points(run) == points(whole)


def test_a_stop_is_saved_where_it_happens(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    run, config = tiny("data.train_images=160", "iterations=10")
    with monkeypatch.context() as patch:
        end_at(4, "asked to stop", patch)
        assert execute(run, config) == 75
    assert run.record()["error"] == "SIGTERM at iteration 4; run the same command again to resume"
    assert run.metrics() == []
    seen: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(Reseed, "on_train_batch_start", lambda self, trainer, *_: seen.append(trainer.global_step))
        assert execute(run, config) == 0
    assert seen == [4, 5, 6, 7, 8, 9]


def test_checkpoints_are_where_a_trainer_goes_on_exactly_from(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once after each iteration: not before an evaluation (5, 10, 15) nor an epoch's end (7, 14), but after it."""
    every_five = ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=5")
    run, config = tiny("data.train_images=100", "iterations=17", *every_five)
    config["runtime"]["save_every"] = 0.0
    saved_at = []

    def note(self: SaveLast, trainer: Trainer) -> None:
        saved_at.append((trainer.global_step, len(run.metrics())))

    monkeypatch.setattr(SaveLast, "save", note)
    assert execute(run, config) == 0
    assert saved_at == [(step, step // 5 + (step == 17)) for step in range(1, 18)]


def test_the_curves_are_on_the_disk_before_the_checkpoint(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    run, config = tiny()
    saves = []
    save = VerifiedCheckpointIO.save_checkpoint

    def look_and_save(self: VerifiedCheckpointIO, checkpoint: dict[str, Any], *rest: Any, **more: Any) -> None:
        shown = EventAccumulator(str(run.directory)).Reload()
        steps = [point.step for point in shown.Scalars("val/error")]
        assert steps == [int(row["step"]) for row in run.metrics()]
        saves.append((checkpoint["global_step"], steps[-1]))
        save(self, checkpoint, *rest, **more)

    monkeypatch.setattr(VerifiedCheckpointIO, "save_checkpoint", look_and_save)
    assert execute(run, config) == 0
    assert saves == [(3, 3), (6, 6)]


MUTATIONS = [
    ("model.depth=14", "model.depth=14 (was 8)"),
    ("model=cifar_resnet", "model.shortcut='A' (was 'none')"),
    ("data.batch_size=20", "data.batch_size=20 (was 16)"),
    ("data.crop_padding=1", "data.crop_padding=1 (was 4)"),
    ("optimizer.lr=0.5", "optimizer.lr=0.5 (was 0.1)"),
    ("schedule.milestones=[5]", "schedule.milestones=[5] (was [3, 4])"),
    ("iterations=7", "iterations=7 (was 6)"),
    ("trainer.precision=64-true", "trainer.precision='64-true' (was '32-true')"),
    ("runtime.threads=2", "threads=2 (was 1)"),
    ("runtime.channels_last=false", "channels_last=False (was True)"),
    ("runtime.compile=true", "compile=True (was False)"),
]
COSMETIC = [
    *("data.num_workers=1", "data.root=elsewhere", "runtime.huge_pages=false", "runtime.save_every=9"),
    *("runtime.timeout=9", "runtime.threads=null", "+trainer.profiler=simple"),
]


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return completed(frozen(tmp_path_factory.mktemp("mine"), *TINY, "run_name=mine"))


@pytest.fixture
def interrupted(mine: Run, tmp_path: Path) -> Run:
    """A copy of a run, which its record says was interrupted; where `tiny("run_name=mine")` would make it."""
    copy = Run(shutil.copytree(mine.directory, tmp_path / "default/mine/seed0"))
    copy.update(status="interrupted")
    return copy


@pytest.mark.parametrize(("override", "difference"), MUTATIONS, ids=[m[0] for m in MUTATIONS])
def test_another_run_is_refused_with_the_difference(
    interrupted: Run, tiny: Tiny, override: str, difference: str
) -> None:
    try:
        _, config = tiny("run_name=mine", override)
        assert execute(interrupted, config) == 1
        message = interrupted.record()["error"]
    except UserError as error:
        message = str(error)
    assert difference in message
    assert "force=true" in message


@pytest.mark.parametrize("override", COSMETIC)
def test_where_and_how_it_runs_may_change(interrupted: Run, tiny: Tiny, override: str) -> None:
    _, config = tiny("run_name=mine", override)
    assert execute(interrupted, config) == 0


BEGAN: dict[str, Any] = {
    **{"processes": 2, "threads": 1, "device": "cpu", "channels_last": True, "compile": False, "strategy": "auto"},
    "data": {"sha256": "a"},
    "kernels": {"processor": "x", "cpu_capability": "AVX2", "environment": {}, "gpu": None},
    "versions": {"python": "3.12", "torch": "2", "torchvision": "2", "hydra-core": "1", "resnet-lab": "1"},
    "machine": {"processor": "x", "cores": 2},
    "git": {"commit": "c", "dirty": False},
}


def resumed(run: Run, before: dict[str, Any], accept: bool = False, **changed: Any) -> dict[str, Any]:
    """What the record of a run that began so keeps, when it is resumed with blocks or facts changed."""
    now = {k: v | changed.pop(k, {}) if isinstance(v, dict) else v for k, v in BEGAN.items()} | changed
    return history(run, before, now, 26, accept)


def test_the_number_of_processes_may_not_change(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert resumed(run, BEGAN) == {"earlier": [], "accepted_changes": []}
    with pytest.raises(UserError, match=r"processes=1 \(was 2\), strategy='ddp' \(was 'auto'\), threads=3"):
        resumed(run, BEGAN, processes=1, threads=3, strategy="ddp")
    edited = {name: fact for name, fact in BEGAN.items() if name != "threads"}
    with pytest.raises(UserError, match=r"threads=1 \(was None\)"):
        resumed(run, edited)


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"processes": 1}, "processes=1 (was 2)"),
    ({"threads": 2}, "threads=2 (was 1)"),
    ({"device": "cuda"}, "device='cuda' (was 'cpu')"),
    ({"kernels": {"processor": "y"}}, "kernels.processor='y' (was 'x')"),
    ({"kernels": {"cpu_capability": "DEFAULT"}}, "kernels.cpu_capability='DEFAULT' (was 'AVX2')"),
    ({"kernels": {"environment": {"MKL_CBWR": "AVX"}}}, "kernels.environment.MKL_CBWR='AVX' (was None)"),
    ({"kernels": {"gpu": {"name": "z"}}}, "kernels.gpu={'name': 'z'} (was None)"),
    ({"versions": {"torch": "3"}}, "versions.torch='3' (was '2')"),
    ({"versions": {"torchvision": "3"}}, "versions.torchvision='3' (was '2')"),
]


@pytest.mark.parametrize(("changed", "difference"), CHANGES, ids=[difference for _, difference in CHANGES])
def test_what_may_change_digits_is_refused_or_accepted_and_marked(
    tmp_path: Path, changed: dict[str, Any], difference: str
) -> None:
    run = Run(tmp_path)
    with pytest.raises(UserError) as refusal:
        resumed(run, BEGAN, **changed)
    assert f"cannot be resumed under other conditions: {difference}; " in str(refusal.value)
    assert "runtime.accept_changes=true, which marks the run permanently" in str(refusal.value)
    kept = resumed(run, BEGAN, True, **changed)
    (stretch,) = kept["earlier"]
    assert stretch["until"] == 26
    assert stretch["changes"] == [difference]
    assert stretch["kernels"] == BEGAN["kernels"]
    assert kept["accepted_changes"] == [f"{difference}, from iteration 26 on"]
    # resumed once more, as it is now: the marks stay
    again = {**BEGAN, **kept}
    assert resumed(run, again, True) == resumed(run, again) == kept


NOTED: list[tuple[dict[str, Any], str]] = [
    ({"git": {"commit": "d"}}, "commit=d (was c)"),
    ({"versions": {"hydra-core": "2"}}, "versions.hydra-core='2' (was '1')"),
    ({"versions": {"resnet-lab": "2"}}, "versions.resnet-lab='2' (was '1')"),
    ({"machine": {"cores": 64}}, "machine.cores=64 (was 2)"),
]


@pytest.mark.parametrize(("changed", "difference"), NOTED, ids=[difference for _, difference in NOTED])
def test_what_changes_no_digit_is_told_and_noted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: dict[str, Any], difference: str
) -> None:
    kept = resumed(Run(tmp_path), BEGAN, **changed)
    assert [stretch["changes"] for stretch in kept["earlier"]] == [[difference]]
    assert kept["accepted_changes"] == []
    assert f"resumed with another machine or code: {difference}" in caplog.text


def test_other_images_are_never_accepted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.sha256='b' \(was 'a'\); set data\.root as it was, or force=true"):
        resumed(Run(tmp_path), BEGAN, True, data={"sha256": "b"})


def test_what_an_older_record_does_not_say_is_unknown_and_not_otherwise(tmp_path: Path) -> None:
    older = {name: fact for name, fact in BEGAN.items() if name not in ("kernels", "versions", "git")}
    assert resumed(Run(tmp_path), older)["earlier"] == []
    fewer = {**BEGAN, "kernels": {"processor": "x"}, "versions": {"torch": "2"}}
    assert resumed(Run(tmp_path), fewer)["earlier"] == []
    with pytest.raises(UserError, match=r"machine\.processor='x' \(was 'w'\); "):
        resumed(Run(tmp_path), older | {"machine": {"processor": "w"}})


def test_a_checkpoint_of_another_run_is_refused(interrupted: Run, tiny: Tiny) -> None:
    interrupted.record_path.unlink()
    run, config = tiny("run_name=mine", "optimizer.lr=0.5")
    assert execute(run, config) == 1
    assert "last.ckpt is of another run" in run.record()["error"]


def test_a_launch_runs_its_own_config_or_none(tiny: Tiny, composed: Callable[..., dict[str, Any]]) -> None:
    run, config = tiny("run_name=mine")
    other = composed(*TINY, "run_name=mine", "optimizer.lr=0.5")
    with pytest.raises(UserError, match=r"holds another run: optimizer.lr=0.5"):
        prepare(other)
    first, second = (command(run, c) for c in (config, config | {"force": True}))
    assert first[:-1] == second[:-1]
    ended = subprocess.run(second, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "another launch has put its config into" in ended.stderr


def test_a_record_that_only_says_completed_is_not_believed(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, config = tiny()
    with monkeypatch.context() as patch:
        end_at(4, "asked to stop", patch)
        assert execute(run, config) == 75
    for claim in ({"status": "completed"}, {"iterations": 6}):
        run.update(**claim)
        assert prepare(config) is not None
        assert "says completed, but neither it nor the curve ends at the last iteration" in capsys.readouterr().err
    assert execute(run, config) == 0
    assert prepare(config) is None


@pytest.mark.parametrize("forged", [{}, {"global_step": 5}, "states"])
def test_a_forged_checkpoint_is_named_and_costs_no_more_than_itself(
    tiny: Tiny, caplog: pytest.LogCaptureFixture, forged: Any
) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    run.update(status="interrupted")
    path = run.checkpoint_path
    if forged == "states":  # of another net
        found = newest_whole(path)
        assert found is not None
        forged = found[1] | {"state_dict": {}}
    buffer = io.BytesIO()
    torch.save(forged, buffer)
    path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    if "state_dict" in forged:
        assert execute(run, config) == 1
        assert re.search(r"last.ckpt has a checksum that holds, but no state of this run", run.record()["error"])
        assert run.record()["traceback"] is None
        path.unlink()
    assert execute(run, config) == 0
    assert "state_dict" in forged or f"{path} is damaged; resuming from" in caplog.text
    assert int(run.metrics()[-1]["step"]) == 6


@pytest.mark.parametrize(("number", "told"), [(28, "no space left for .*; free some"), (30, "set output_root to")])
def test_what_helps_where_a_run_cannot_begin(
    composed: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("resnet_lab.runs.start.write_atomically", fail)
    with pytest.raises(UserError, match=told):
        prepare(composed(*TINY))


def test_what_force_began_goes_on(tiny: Tiny) -> None:
    run, config = tiny("force=true")
    assert execute(run, config) == 0
    run.update(status="interrupted")
    tiny("force=true")
    assert run.status() == "interrupted"
    run.update(status="completed")
    tiny("force=true")
    assert len(list(run.directory.parent.glob(".seed0-until-*"))) == 1


@pytest.mark.parametrize("how", ["failed", "other settings"])
def test_force_sets_aside_what_force_began_and_cannot_go_on(tiny: Tiny, how: str) -> None:
    words = ("force=true", "run_name=mine")
    run, config = tiny(*words)
    assert execute(run, config) == 0
    run.update(status="failed" if how == "failed" else "interrupted")
    tiny(*words, *(["optimizer.lr=0.5"] if how == "other settings" else []))
    assert len(list(run.directory.parent.glob(".seed0-until-*"))) == 1


def test_code_of_ones_own_that_changed_may_change_digits() -> None:
    facts: dict[str, Any] = dict.fromkeys(CONDITIONS) | {"versions": {}, "machine": {}, "data": {}}
    before, now = (facts | {"trusted_packages": {"my_nets": {"sha256": digest}}} for digest in "ab")
    assert find_changes(before, now).digits == ["trusted_packages.my_nets.sha256='b' (was 'a')"]
    assert find_changes(before, before).digits == []
    assert find_changes(before, facts).digits == []  # not asked for any more: building the net refuses it


def test_a_curve_that_lost_a_row_is_refused(interrupted: Run) -> None:
    config = interrupted.record()["config"]
    lines = interrupted.metrics_path.read_text().splitlines(keepends=True)
    interrupted.metrics_path.write_text("".join([lines[0], lines[2]]))
    assert execute(interrupted, config) == 1
    assert "has 1 evaluations, the checkpoint knows of 2" in interrupted.record()["error"]


def test_a_curve_that_was_edited_in_an_earlier_row_is_refused(interrupted: Run) -> None:
    config = interrupted.record()["config"]
    written = interrupted.metrics_path.read_text()
    header, first, last = written.splitlines()
    values = dict(zip(header.split(","), first.split(","), strict=True)) | {"train_error": "0.0"}
    interrupted.metrics_path.write_text("\n".join([header, ",".join(values.values()), last, ""]))
    assert execute(interrupted, config) == 1
    assert "metrics.csv was edited: its rows are not those" in interrupted.record()["error"]
    interrupted.metrics_path.write_text(written)
    assert execute(interrupted, config) == 0


def test_a_checkpoint_without_a_checksum_of_the_curve_goes_on(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    run, config = tiny("iterations=9")
    with monkeypatch.context() as patch:
        end_at(4, "asked to stop", patch)
        older = {"evaluations": 1, "run": hash_of_run(config)}
        patch.setattr(Curves, "state_dict", lambda self: older)
        assert execute(run, config) == 75
    assert execute(run, config) == 0
    assert [row["step"] for row in run.metrics()] == ["3", "6", "9"]


def test_the_checkpoint_before_the_last_is_gone_on_from_in_the_same_way(
    interrupted: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """A kill between the two renames leaves that one alone."""
    interrupted.checkpoint_path.unlink()
    before = interrupted.record()
    edited = {"seconds": 1000.0, "git": {"commit": "d", "dirty": False}}
    interrupted.update(**edited)
    assert execute(interrupted, before["config"]) == 0
    record = interrupted.record()
    assert record["seconds"] > 1000
    assert "resumed with another machine or code: commit=" in caplog.text
    assert record["git"] == before["git"]
    (stretch,) = record["earlier"]
    assert stretch["until"] == 3
    assert stretch["git"] == edited["git"]


def test_a_refusal_leaves_where_the_run_was(interrupted: Run, tiny: Tiny) -> None:
    elsewhere = {"processor": "another", "cores": 1}
    interrupted.update(machine=elsewhere, kernels=interrupted.record()["kernels"] | {"processor": "another"})
    _, config = tiny("run_name=mine")
    assert execute(interrupted, config) == 1
    assert (
        "was 'another'); resume it as it began, or add runtime.accept_changes=true"
        in interrupted.record()["error"]
    )
    assert interrupted.record()["machine"] == elsewhere
    _, config = tiny("run_name=mine", "runtime.accept_changes=true")
    assert execute(interrupted, config) == 0
    assert interrupted.record()["machine"] != elsewhere
    assert interrupted.record()["earlier"][0]["machine"] == elsewhere


def test_a_run_that_starts_anew_has_no_past(interrupted: Run, tiny: Tiny) -> None:
    interrupted.update(threads=7, accepted_changes=["x"], earlier=[{}])
    for checkpoint in interrupted.checkpoint_path.parent.iterdir():
        checkpoint.write_bytes(b"damaged")
    assert execute(interrupted, interrupted.record()["config"]) == 0
    assert interrupted.record()["threads"] == 1
    assert interrupted.record()["accepted_changes"] == interrupted.record()["earlier"] == []


def test_other_kernels_are_refused_until_they_are_accepted(tiny: Tiny) -> None:
    run, config = tiny("iterations=9")
    environ = os.environ | {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    assert subprocess.run(command(run, config), env=environ, stderr=subprocess.DEVNULL).returncode == 0
    run.update(status="interrupted")
    run.checkpoint_path.unlink()  # the one before it is of iteration 6
    assert execute(run, config) == 1
    reason = run.record()["error"]
    ours = torch.backends.cpu.get_cpu_capability()
    assert f"kernels.cpu_capability='{ours}' (was 'DEFAULT')" in reason
    assert "kernels.environment.ONEDNN_MAX_CPU_ISA=None (was 'SSE41')" in reason
    assert "\n" not in reason
    run, config = tiny("iterations=9", "runtime.accept_changes=true")
    assert execute(run, config) == 0
    record = run.record()
    assert record["earlier"][0]["until"] == 6
    assert record["earlier"][0]["kernels"]["cpu_capability"] == "DEFAULT"
    assert record["kernels"]["cpu_capability"] == ours
    (mark,) = record["accepted_changes"]
    assert mark.startswith(f"kernels.cpu_capability='{ours}' (was 'DEFAULT')")
    assert mark.endswith("from iteration 6 on")


def test_what_a_net_draws_depends_on_seed_iteration_and_process_alone() -> None:
    def drawn(seed: int, step: int, rank: int) -> float:
        trainer = Trainer(logger=False, enable_checkpointing=False, barebones=False)
        trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
        trainer.strategy.global_rank = rank  # type: ignore[misc]
        Reseed(seed).on_train_batch_start(trainer)
        return float(torch.rand(()))

    assert drawn(0, 5, 0) == drawn(0, 5, 0)
    assert len({drawn(0, 5, 0), drawn(1, 5, 0), drawn(0, 6, 0), drawn(0, 5, 1)}) == 4


def test_unsafe_loading_is_refused(
    tiny: Tiny, composed: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = tiny()
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    assert execute(run, config) == 1
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set" in run.record()["error"]
    with pytest.raises(UserError, match="unset it"):
        composed()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(28, "No space left on device"), r"no space left for .*free some, then repeat the command"),
        (MemoryError(), r"out of memory .*smaller data\.batch_size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "out of memory .*DefaultCPU"),
    ],
)
def test_a_failure_is_told_with_its_remedy(tmp_path: Path, error: Exception, reason: str) -> None:
    assert re.match(reason, explain(error, Run(tmp_path)) or "")
    assert explain(ZeroDivisionError(), Run(tmp_path)) is None


def test_prepare_waits_for_nobody_else(tiny: Tiny, composed: Callable[..., dict[str, Any]]) -> None:
    run, config = tiny()
    with run.ownership(), pytest.raises(UserError, match=f"in use by process {os.getpid()} .*wait for it or stop"):
        prepare(config)
