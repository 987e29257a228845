"""Runs and sweeps through the real command line."""

import csv
import json
import platform
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from runs import curve, only_run, start, wait_for_rows, wait_until_free, weights
from samples import write_cifar10
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from resnet_lab.benchmarks.rounds import markdown_table, read_rounds
from resnet_lab.config.again import command_line
from resnet_lab.eval import hold_against_record
from resnet_lab.evaluation.chosen import Stored
from resnet_lab.runs.directory import Run
from resnet_lab.runs.worker import execute
from resnet_lab.training.checkpoint import read_checkpoint

Call = Callable[..., subprocess.CompletedProcess[str]]
Tiny = Callable[..., tuple[Run, dict[str, Any]]]


def test_a_run_leaves_what_it_promises(resnet_lab: Call, tmp_path: Path) -> None:
    ended = resnet_lab("train", *TINY)
    assert ended.returncode == 0, ended.stderr
    told = ended.stderr.splitlines()
    assert "iteration 3/6: train error" in told[6]
    assert "iteration 6/6: train error" in told[7]
    assert "complete: train error" in told[10]
    assert len(told) == 11
    run = only_run(tmp_path)
    record = run.record()
    assert record["status"] == "completed"
    assert record["command"] == TINY
    assert record["config"]["model"]["depth"] == 8
    assert record["parameters"] > 0
    assert record["multiply_adds"] > 0
    assert record["data"]["validates_on"] == "the test images"
    assert record["val_error"] == record["test_error"]
    assert (record["test_error"] * 21 / 100) == pytest.approx(round(record["test_error"] * 21 / 100))
    rows = run.metrics()
    # 40 images are three batches of 16, the last one short
    assert [(row["step"], row["epoch"]) for row in rows] == [("3", "0"), ("6", "1")]
    assert list(rows[0]) == [
        *("step", "epoch", "lr", "train_loss", "train_error", "train_error_top5"),
        *("val_loss", "val_error", "val_error_top5", "images_per_second"),
    ]
    assert float(rows[0]["train_error"]) * 40 / 100 == pytest.approx(
        round(float(rows[0]["train_error"]) * 40 / 100)
    )
    left = {path.name for path in run.directory.iterdir() if not path.name.startswith("events")}
    assert left == {".hydra", ".lock", "checkpoints", "metrics.csv", "record.json", "train.log"}
    shown = json.loads(resnet_lab("info", f"run={run.directory}", "format=json").stdout)
    assert (shown["parameters"], shown["multiply_adds"]) == (record["parameters"], record["multiply_adds"])
    again = resnet_lab("train", *TINY)
    assert again.returncode == 0
    assert "is complete" in again.stderr
    forced = resnet_lab("train", *TINY, "force=true")
    assert forced.returncode == 0
    assert "is set aside" in forced.stderr
    assert curve(only_run(tmp_path)) == curve(run)
    assert len(list(run.directory.parent.glob(".seed0-until-*/record.json"))) == 1


def test_the_golden_curve_comes_back(tmp_path: Path) -> None:
    """Bit for bit with the version of torch that it was made with, on any x86 processor; closely with others."""
    (golden,) = (Path(__file__).parent / "golden").glob("torch-*.csv")
    plain_kernels = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
    assert start(tmp_path, "iterations=12", "data.crop_padding=2", environ=plain_kernels, fresh=True).wait() == 0
    rows, before = curve(only_run(tmp_path)), list(csv.DictReader(golden.read_text().splitlines()))
    if golden.stem == f"torch-{torch.__version__.partition('+')[0]}" and platform.machine() == "x86_64":
        assert rows == before
    for row, old in zip(rows, before, strict=True):
        assert float(row["train_loss"]) == pytest.approx(float(old["train_loss"]), rel=1e-3)


def test_tensorboard_shows_the_curves_in_the_fields_words(tiny: Tiny) -> None:
    run, config = tiny("data.holdout=10")
    assert execute(run, config) == 0
    (events,) = run.directory.glob("events*")
    shown = EventAccumulator(str(events), size_guidance={"scalars": 0}).Reload()
    tags = {f"{part}/{what}" for part in ("train", "val", "test") for what in ("loss", "error", "error_top5")}
    assert set(shown.Tags()["scalars"]) == tags | {"lr", "perf/images_per_second"}
    rows = run.metrics()
    for tag in ("train/error", "val/error"):
        points = [(point.step, point.value) for point in shown.Scalars(tag)]
        expected = [(int(row["step"]), float(row[tag.replace("/", "_")])) for row in rows]
        assert points == [(step, pytest.approx(value)) for step, value in expected]
    plugins = shown.summary_metadata
    layout = layout_pb2.Layout.FromString(shown.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    patterns = layout.category[0].chart[0].multiline.tag
    shown_together = {tag for tag in shown.Tags()["scalars"] for pattern in patterns if re.match(pattern, tag)}
    assert shown_together == {"train/error", "val/error"}
    assert "_hparams_/session_start_info" in plugins


def test_the_last_iteration_is_evaluated_inside_an_epoch(tiny: Tiny) -> None:
    run, config = tiny("iterations=5")
    assert execute(run, config) == 0
    assert [row["step"] for row in run.metrics()] == ["3", "5"]
    assert run.record()["iterations"] == 5


def test_an_evaluation_that_is_not_finite_ends_the_run(tiny: Tiny) -> None:
    run, config = tiny("iterations=1", "schedule.milestones=[1]", "optimizer.lr=1e30")
    assert execute(run, config) == 1
    assert "the val loss is not finite after iteration 1" in run.record()["error"]


def test_loader_processes_change_nothing(tiny: Tiny) -> None:
    curves = []
    for workers in (0, 2):
        run, config = tiny(
            f"data.num_workers={workers}", f"experiment_name=workers{workers}", "data.crop_padding=2"
        )
        assert execute(run, config) == 0
        curves.append(curve(run))
    assert curves[0] == curves[1]


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_every_precision_trains_and_counts_exactly(tiny: Tiny, precision: str) -> None:
    run, config = tiny(f"trainer.precision={precision}")
    assert execute(run, config) == 0
    assert hold_against_record(Stored(run, run.checkpoint_path), config["trainer"] | {"precision": "32-true"})
    wrong = run.record()["train_error_clean"] * 40 / 100
    assert wrong == pytest.approx(round(wrong), abs=1e-9)


def test_float64_weights_are_restored_as_they_were(tiny: Tiny) -> None:
    run, config = tiny("trainer.precision=64-true")
    assert execute(run, config) == 0
    whole = weights(run)
    run.checkpoint_path.unlink()  # the one before it is left
    run.update(status="interrupted")
    assert execute(run, config) == 0
    torch.testing.assert_close(weights(run), whole, rtol=0, atol=0)
    assert whole["net.head.2.weight"].dtype == torch.float64


def test_an_average_is_not_kept_of_weights_of_16_bits(tiny: Tiny) -> None:
    run, config = tiny("callbacks=ema", "trainer.precision=bf16-true")
    assert execute(run, config) == 1
    assert "trainer.precision=bf16-true would round" in run.record()["error"]


@pytest.mark.parametrize(("count", "of"), [(0, None), (7, 7), (1000, 40)])
def test_the_final_training_error_is_taken_on_as_many_images_as_asked_for(
    resnet_lab: Call, tmp_path: Path, count: int, of: int | None
) -> None:
    assert resnet_lab("train", *TINY, f"runtime.final_train_images={count}").returncode == 0
    record = only_run(tmp_path).record()
    assert ("train_error_clean" in record) == (of is not None)
    if of:
        wrong = record["train_error_clean"] * of / 100
        assert wrong == pytest.approx(round(wrong), abs=1e-4)
    evaluated = resnet_lab("eval", "runs=outputs")
    assert evaluated.returncode == 0, evaluated.stdout + evaluated.stderr
    assert ("train_error_clean" in evaluated.stdout) == (of is not None)
    assert resnet_lab("report", "outputs").returncode == 0
    assert "1 completed" in (tmp_path / "outputs/report.md").read_text()


def test_stored_weights_give_the_recorded_errors(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    run, config = tiny("data.holdout=10")
    assert execute(run, config) == 0
    trainer = config["trainer"]
    assert hold_against_record(Stored(run, run.checkpoint_path), trainer) is True
    assert "seed0: as recorded" in capsys.readouterr().out
    honest = run.record()
    for key in ("train_error_clean", "val_error", "test_error"):
        run.update(**honest | {key: honest[key] - 100 / 21})
        assert hold_against_record(Stored(run, run.checkpoint_path), trainer) is False
        assert f"recorded as {honest[key] - 100 / 21}" in capsys.readouterr().out
    run.update(**honest | {"iterations": 7})
    assert hold_against_record(Stored(run, run.checkpoint_path), trainer) is False
    assert "the weights are of iteration 6, not 7" in capsys.readouterr().out
    for edited in ({"config": []}, {"test_error": "0"}, {"data": "abc"}, {"threads": None}):
        run.update(**honest | edited)
        assert hold_against_record(Stored(run, run.checkpoint_path), trainer) is False
    edited_config = honest["config"] | {"optimizer": honest["config"]["optimizer"] | {"lr": 0.5}}
    run.update(**honest | {"config": edited_config})
    assert hold_against_record(Stored(run, run.checkpoint_path), trainer) is False
    assert "last.ckpt does not belong to the config in " in capsys.readouterr().out
    run.update(**honest | {"status": "interrupted"})
    assert hold_against_record(Stored(run, run.checkpoint_path), trainer) is None


def test_the_schedule_counts_iterations_and_a_row_has_the_rate_of_its_last(tiny: Tiny) -> None:
    every_iteration = ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=1")
    run, config = tiny("schedule.milestones=[3,5]", "optimizer.lr=0.1", *every_iteration)
    assert execute(run, config) == 0
    by_step = {int(row["step"]): float(row["lr"]) for row in run.metrics()}
    # three iterations before the first milestone, two between them
    assert by_step == pytest.approx({1: 0.1, 2: 0.1, 3: 0.1, 4: 0.01, 5: 0.01, 6: 0.001})
    shown = EventAccumulator(str(run.directory)).Reload()
    assert {p.step: p.value for p in shown.Scalars("lr")} == pytest.approx(by_step)


@pytest.mark.parametrize("schedule", ["multistep_warmup", "plateau", "cosine", "constant"])
def test_every_schedule_trains(tiny: Tiny, schedule: str) -> None:
    run, config = tiny(f"schedule={schedule}")
    assert execute(run, config) == 0


def test_a_loss_that_is_not_finite_ends_the_run(tiny: Tiny, caplog: pytest.LogCaptureFixture) -> None:
    run, config = tiny("optimizer.lr=1e30")
    assert execute(run, config) == 1
    record = run.record()
    assert record["status"] == "failed"
    assert "the loss is not finite at iteration 1 (epoch 0, batch 1), lr 1e+30" in record["error"]
    assert record["error"] in caplog.text
    assert not run.checkpoint_path.exists()


LONGER = ("iterations=150", "data.crop_padding=2")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("whole")
    assert start(folder, *LONGER).wait() == 0
    return only_run(folder)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_goes_on_to_the_same_curve_and_weights(tmp_path: Path, uninterrupted: Run, how: int) -> None:
    process = start(tmp_path, *LONGER)
    run = wait_for_rows(tmp_path, 4)
    process.send_signal(how)
    assert process.wait() == (-signal.SIGKILL if how == signal.SIGKILL else 75)
    wait_until_free(run)
    assert run.status() == "interrupted"
    assert len(run.metrics()) < 50
    assert start(tmp_path, *LONGER).wait() == 0
    assert curve(run) == curve(uninterrupted)
    for name, tensor in weights(uninterrupted).items():
        assert torch.equal(tensor, weights(run)[name]), name
    (accumulated,) = [EventAccumulator(str(run.directory), size_guidance={"scalars": 0}).Reload()]
    assert [point.step for point in accumulated.Scalars("val/error")] == list(range(3, 151, 3))


def test_a_plateau_schedule_goes_on_where_it_was(tiny: Tiny) -> None:
    """Its state in the checkpoint includes the evaluation before it."""
    falling = (
        "schedule=plateau",
        "schedule.patience=0",
        "schedule.min_lr=0",
        "optimizer.lr=1e-7",
        "iterations=15",
    )
    run, config = tiny(*falling)
    assert execute(run, config) == 0
    checkpoint = read_checkpoint(run.checkpoint_path)
    assert checkpoint is not None
    (state,) = checkpoint["lr_schedulers"]
    assert state["last_epoch"] == len(run.metrics()) == 5
    rates = [float(row["lr"]) for row in run.metrics()]
    assert rates[-1] < rates[0]
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] == rates[-1]


def test_other_images_are_refused_in_the_middle_of_a_run(tiny: Tiny) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    run.update(status="interrupted", data=run.record()["data"] | {"sha256": "0" * 64})
    assert execute(run, config) == 1
    assert "cannot be resumed under other conditions: data.sha256=" in run.record()["error"]


def test_two_processes_on_the_cpu(resnet_lab: Call, tiny: Tiny, tmp_path: Path) -> None:
    ended = resnet_lab("train", *TINY, "trainer=ddp_cpu", "iterations=9")
    assert ended.returncode == 0, ended.stderr
    assert "cpu: 2 processes of 1 thread" in ended.stderr
    for once in ("reading the images", "9 iterations, 3 an epoch", "testing on 21 images", "complete"):
        assert ended.stderr.count(once) == 1
    run = only_run(tmp_path)
    assert run.record()["status"] == "completed"
    rows = run.metrics()
    assert [row["step"] for row in rows] == ["3", "6", "9"]
    for row in rows:
        wrong = float(row["val_error"]) * 21 / 100
        assert wrong == pytest.approx(round(wrong))
    assert len(list(run.directory.glob("events*"))) == 1
    # and one of them goes on with the first two thirds, if it is told to
    run.update(status="interrupted")
    run.checkpoint_path.unlink()
    _, config = tiny("trainer=cpu", "iterations=9", f"output_root={tmp_path}/outputs")
    assert execute(run, config) == 1
    assert "processes=1 (was 2)" in run.record()["error"]
    config["runtime"]["accept_changes"] = True
    assert execute(run, config) == 0
    assert [row["step"] for row in run.metrics()] == ["3", "6", "9"]
    assert run.metrics()[:2] == rows[:2]
    (mark,) = run.record()["accepted_changes"]
    assert "processes=1 (was 2)" in mark
    assert mark.endswith("from iteration 6 on")


def test_a_sweep_goes_on_past_a_failure_and_says_so(resnet_lab: Call, tmp_path: Path) -> None:
    # padding as wide as the images is noticed with the images at hand
    sweep = ("-m", *TINY, "data.crop_padding=1,9", "seed=0,1", "experiment_name=study")
    ended = resnet_lab("train", *sweep)
    assert ended.returncode == 1
    assert "crop_padding must not exceed the image size 8, got 9" in ended.stdout
    study = tmp_path / "outputs/study"
    assert len(json.loads((study / "plan.json").read_text())) == 4
    statuses = [Run(path.parent).status() for path in sorted(study.glob("*/seed*/record.json"))]
    assert sorted(statuses) == ["completed", "completed", "failed", "failed"]
    report = (study / "report.md").read_text()
    assert "2 of 4 runs are not complete" in report
    again = resnet_lab("train", *sweep)
    assert again.returncode == 1
    assert again.stdout.count(" running") == 2


@pytest.mark.parametrize(("on_failure", "runs"), [("stop", 1), ("continue", 2)])
def test_a_failure_stops_a_sweep_where_that_is_asked(
    resnet_lab: Call, tmp_path: Path, on_failure: str, runs: int
) -> None:
    one_by_one = ("hydra.launcher.n_jobs=1", f"hydra.launcher.on_failure={on_failure}")
    ended = resnet_lab("train", "-m", *TINY, "iterations=1", "data.crop_padding=9,1", *one_by_one)
    assert ended.returncode == 1
    statuses = [Run(path.parent).status() for path in tmp_path.glob("outputs/*/*/seed*/record.json")]
    assert sorted(statuses) == ["completed", "failed"][-runs:]
    assert ("waiting" in ended.stdout) == (on_failure == "stop")


def test_cifar10_degradation_on_data_in_its_format(resnet_lab: Call, tmp_path: Path) -> None:
    write_cifar10(tmp_path / "data")
    small = (
        "trainer=cpu",
        f"data.root={tmp_path}/data",
        "iterations=2",
        "model.width=2",
        "runtime.threads=1",
    )
    ended = resnet_lab("train", "experiment=cifar10_degradation", *small, "model.depth=14,8", "data.batch_size=32")
    assert ended.returncode == 0, ended.stdout
    report = (tmp_path / "outputs/cifar10_degradation/report.md").read_text()
    # two iterations start no net to train, so these are rows without a verdict
    for net in ("plain-8", "plain-14", "resnet-8-A", "resnet-14-A"):
        assert re.search(rf"^\| {net} \|.*\(n = 1\).*\| 1 completed \|$", report, re.MULTILINE), net


def test_smoke_runs_the_experiment_before_it_and_names_what_was_swept(resnet_lab: Call, tmp_path: Path) -> None:
    swept = ("model=cifar_resnet", "model.depth=8", "optimizer.weight_decay=0,1e-4", "runtime.threads=1")
    ended = resnet_lab("train", "experiment=[cifar10_degradation,smoke]", *swept)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    study = tmp_path / "outputs/cifar10_degradation-smoke"
    records = [Run(path.parent).record() for path in study.glob("*/seed0/record.json")]
    configs = [record["config"] for record in records]
    assert all("hydra.mode=RUN" in command_line(record) for record in records)
    assert ["model.depth=8" in record["command"] for record in records] == [True, True]
    assert {config["optimizer"]["weight_decay"] for config in configs} == {0, 0.0001}
    assert {(config["model"]["width"], *config["schedule"]["milestones"]) for config in configs} == {(4, 2, 3)}
    for decay in ("0", "0.0001"):
        assert f"resnet-8-A, weight decay {decay}, seed 0 completed" in ended.stdout
        assert f"| resnet-8-A, weight decay {decay} |" in (study / "report.md").read_text()
    assert "status,optimizer.weight_decay,parameters" in (study / "results.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imagenet_degradation", "throughput", "imagenet_loading"])
def test_smoke_runs_what_needs_photographs_or_measures(resnet_lab: Call, tmp_path: Path, name: str) -> None:
    ended = resnet_lab("train", f"experiment=[{name},smoke]")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    runs = [Run(path.parent) for path in tmp_path.glob(f"outputs/{name}-smoke/*/seed0/record.json")]
    assert len(runs) == (4 if name == "imagenet_degradation" else 1)
    assert all(run.is_complete() for run in runs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["auxiliary", "bottleneck", "constructed", "easier", "ensemble", "gates", "inception", "stacked_3x3"]
)
def test_smoke_runs_what_is_analyzed(resnet_lab: Call, tmp_path: Path, name: str) -> None:
    ended = resnet_lab("train", f"experiment=[{name},smoke]")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    runs = [Run(path.parent) for path in tmp_path.glob(f"outputs/{name}-smoke/*/seed0/record.json")]
    assert runs
    for run in runs:
        assert run.is_complete()
        assert list(run.directory.glob("analyses/*.csv"))


def test_weights_kept_for_analyses_are_the_same_through_a_kill(tmp_path: Path) -> None:
    words = (*LONGER, "analyze_at=[4,149,last]")
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    assert start(tmp_path / "whole", *words).wait() == 0
    process = start(tmp_path / "killed", *words)
    run = wait_for_rows(tmp_path / "killed", 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until_free(run)
    assert run.kept_path(4).exists()
    assert not run.kept_path(149).exists()
    assert start(tmp_path / "killed", *words).wait() == 0
    for iteration in (4, 149):
        found, expected = (read_checkpoint(r.kept_path(iteration)) for r in (run, only_run(tmp_path / "whole")))
        assert found is not None
        assert expected is not None
        assert found["global_step"] == iteration
        same = [torch.equal(found["state_dict"][key], weight) for key, weight in expected["state_dict"].items()]
        assert all(same)
        assert same


def test_weights_kept_for_analyses_are_those_of_a_checkpoint(tmp_path: Path) -> None:
    words = ("trainer=ddp_cpu", "analyze_at=[6,last]")
    assert start(tmp_path, *words).wait() == 0
    run = only_run(tmp_path)
    kept = read_checkpoint(run.kept_path(6))
    assert kept is not None
    last = weights(run)
    assert all(torch.equal(weight, last[name]) for name, weight in kept["state_dict"].items())


def test_info_counts(resnet_lab: Call) -> None:
    ended = resnet_lab("info", "model=cifar_resnet", "model.depth=56", "data=cifar10", "format=json")
    facts = json.loads(ended.stdout)
    assert facts["parameters"] == 853018
    # the paper's FLOPs: a multiply and its addition are one
    assert facts["multiply_adds"] == pytest.approx(125.5e6, rel=0.001)
    assert sum(layer["parameters"] for layer in facts["layers"]) == 853018


@pytest.mark.slow
def test_two_processes_stopped_between_evaluations_go_on_to_the_same_curve(tmp_path: Path) -> None:
    long = ("trainer=ddp_cpu", "trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=40")
    overrides = (*long, "iterations=160")
    (tmp_path / "whole").mkdir()
    (tmp_path / "stopped").mkdir()
    assert start(tmp_path / "whole", *overrides).wait() == 0
    process = start(tmp_path / "stopped", *overrides)
    run = wait_for_rows(tmp_path / "stopped", 2)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    assert start(tmp_path / "stopped", *overrides).wait() == 0
    assert curve(run) == curve(only_run(tmp_path / "whole"))


@pytest.mark.slow
def test_killing_a_sweep_ends_its_jobs_and_the_same_command_goes_on(tmp_path: Path) -> None:
    sweep = ("hydra.mode=MULTIRUN", *LONGER, "iterations=300", "seed=0,1")
    process = start(tmp_path, *sweep, fresh=True)
    wait_for_rows(tmp_path, 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    runs = [Run(path.parent) for path in tmp_path.glob("outputs/*/*/seed*/record.json")]
    wait_until_free(*runs)
    assert {run.status() for run in runs} == {"interrupted"}
    assert start(tmp_path, *sweep).wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_sweep_goes_on(tmp_path: Path, how: int) -> None:
    sweep = ("hydra.mode=MULTIRUN", *LONGER, "seed=0,1,2")
    process = start(tmp_path, *sweep)
    wait_for_rows(tmp_path, 2)
    process.send_signal(how)
    assert process.wait() == 75
    records = list(tmp_path.glob("outputs/*/*/seed*/record.json"))
    assert records
    assert {Run(path.parent).status() for path in records} == {"interrupted"}
    assert all(Run(path.parent).owner() is None for path in records)
    assert start(tmp_path, *sweep).wait() == 0
    assert len(list(tmp_path.glob("outputs/*/*/seed*/record.json"))) == 3


@pytest.mark.slow
def test_throughput_measures_all_of_them(resnet_lab: Call, tmp_path: Path) -> None:
    small = ("model.depth=8", "model.width=4", "data.batch_size=16", "data.train_images=128")
    ended = resnet_lab("train", "experiment=throughput", "iterations=2", *small)
    assert ended.returncode == 0, ended.stderr
    ratios = only_run(tmp_path).record()["ratios"]
    assert all(0 < ratio["min"] <= ratio["median"] <= ratio["max"] for ratio in ratios.values())
    others = {"fit / bare loop", "fit / usual loader", "fit / convolution floor"}
    assert set(ratios) - {"fit / fit in bf16"} == others  # which not every processor has
    folder = only_run(tmp_path).directory
    assert (
        markdown_table(read_rounds((folder / "rounds.csv").read_text())) == (folder / "throughput.md").read_text()
    )
    assert "usual loader" in ended.stdout
