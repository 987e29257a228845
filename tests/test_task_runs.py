"""Detection, localization and segmentation through the command line, shrunk to a few scenes."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import frozen
from PIL import Image
from runs import curve, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_resume import Killed, end_at

from resnet_lab.checks import UserError
from resnet_lab.evaluation.stored import open_run
from resnet_lab.runs.directory import Run
from resnet_lab.runs.first_weights import check
from resnet_lab.runs.start import prepare
from resnet_lab.runs.worker import execute

Call = Callable[..., subprocess.CompletedProcess[str]]
Composed = Callable[..., dict[str, Any]]

SCENES = (
    *("data=scenes", "data.train_images=14", "data.test_images=5", "data.image_size=32", "data.sizes=[10,16]"),
    *("data.count=[1,3]", "data.batch_size=4", "data.eval_batch_size=2", "model=cifar_resnet", "model.depth=8"),
    *("model.width=4", "iterations=8", "optimizer.lr=0.02", "runtime.threads=1"),
)
DETECTION = (
    *("task=detection", "task.stride=4", "task.hidden=16", "task.anchor_sizes=[8,16]", "task.proposals=20"),
    *("task.sampled_anchors=16", "task.sampled_regions=8", "task.detections=10"),
)
TASKS = {
    "detection": DETECTION,
    "localization": ("task=localization", "task.stride=4", "task.hidden=8", "data.count=[1,1]"),
    "segmentation": ("task=segmentation", "task.stride=4"),
}


def trained(folder: Path, *words: str) -> Run:
    config = frozen(folder, *SCENES, *words)
    run = prepare(config)
    assert run is not None
    assert execute(run, config) == 0
    return run


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """A run of each task that nothing ended."""
    return {task: trained(tmp_path_factory.mktemp(task), *words) for task, words in TASKS.items()}


def assert_same(run: Run, whole: Run) -> None:
    assert curve(run) == curve(whole)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(run)[name]), name


@pytest.mark.parametrize("task", TASKS)
def test_a_run_says_what_it_found(resnet_lab: Call, wholes: dict[str, Run], task: str) -> None:
    run = wholes[task]
    record, rows = run.record(), run.metrics()
    assert record["status"] == "completed"
    assert [row["step"] for row in rows] == ["4", "8"]
    assert float(rows[-1]["val_error"]) == record["val_error"] == record["test_error"]
    with Image.open(run.directory / "found.png") as picture:
        assert picture.size == (2 * 34 + 2, 2 * 32 + 4)  # of the first two scenes, with margins of 2
    shown = EventAccumulator(str(run.directory), size_guidance={"images": 0}).Reload()
    (tag,) = shown.Tags()["images"]
    assert [image.step for image in shown.Images(tag)] == [4, 8]
    agreed = resnet_lab("eval", f"runs={run.directory}")
    assert agreed.returncode == 0, agreed.stdout + agreed.stderr
    assert f"{run.directory}: as recorded" in agreed.stdout
    assert f"test_error {record['test_error']:.4f} %" in agreed.stdout


STOPS = [("detection", "killed"), ("detection", "killed after a save"), ("detection", "asked to stop")]
STOPS += [("localization", "killed after a save"), ("segmentation", "asked to stop")]


@pytest.mark.parametrize(("task", "how"), STOPS)
def test_a_run_that_is_ended_goes_on_exactly(
    composed: Composed, monkeypatch: pytest.MonkeyPatch, wholes: dict[str, Run], task: str, how: str
) -> None:
    config = composed(*SCENES, *TASKS[task])
    run = prepare(config)
    assert run is not None
    config["runtime"]["save_every"] = 600.0 if how == "asked to stop" else 0.0
    for iteration in (1, 3, 6):
        with monkeypatch.context() as patch:
            end_at(iteration, how, patch)
            if how == "asked to stop":
                assert execute(run, config) == 75
            else:
                with pytest.raises(Killed):
                    execute(run, config)
    assert execute(run, config) == 0
    assert_same(run, wholes[task])


FIRST = ("data.count=[1,1]", "experiment_name=first", "iterations=4", "seed=0,1")
OF = ("weights=of:first", "weights_head=keep")


@pytest.fixture(scope="module")
def firsts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder with runs that classify, of two seeds."""
    folder = tmp_path_factory.mktemp("firsts")
    for seed in (0, 1):
        trained(folder, *FIRST[:-1], f"seed={seed}")
    return folder


def test_a_detector_starts_from_the_classifier_of_its_seed(firsts: Path) -> None:
    """Normalization is left as it was, with its statistics, and so is the stem; everything else moves."""
    runs = [
        trained(firsts, *DETECTION, *OF, f"seed={seed}", "task.frozen_norm=true", "freeze=[stem]")
        for seed in (0, 1)
    ]
    assert runs[0].directory.parent == runs[1].directory.parent
    assert runs[0].record()["weights"]["sha256"] != runs[1].record()["weights"]["sha256"]
    for seed, run in enumerate(runs):
        (first,) = firsts.glob(f"first/*/seed{seed}")
        assert run.record()["weights"]["file"] == str(Run(first).checkpoint_path)
        before = {name.removeprefix("net."): tensor for name, tensor in weights(Run(first)).items()}
        begun = open_run(run.directory, "initialization").net.state_dict()
        state, kept = weights(run), []
        for name, tensor in begun.items():
            own, last = name.removeprefix("detector.backbone."), state[f"net.{name}"]
            if own != name:
                assert torch.equal(tensor, before[own]), name
            if torch.equal(last, tensor):
                kept.append(own)
        assert all(name.startswith("stem") or "bn" in name or ".1." in name for name in kept), kept
        assert {name for name in before if name.startswith(("stem", "stage")) and "running" in name} <= set(kept)


def test_weights_of_an_experiment_are_those_of_one_run(firsts: Path, tmp_path: Path) -> None:
    for words, told in (
        (
            ("weights=of:first", "seed=2"),
            r"has 0 completed runs of resnet-8-A with seed 2; run experiment=first first",
        ),
        (
            ("weights=of:other",),
            r"other has 0 completed runs of resnet-8-A with seed 0; run experiment=other first",
        ),
        (("weights=of:first", "model.depth=14"), r"has 0 completed runs of resnet-14-A with seed 0"),
    ):
        with pytest.raises(UserError, match=told):
            prepare_and_check(firsts, *words)
    twice = tmp_path / "twice"
    for iterations in (2, 3):
        trained(twice, *FIRST[:2], f"iterations={iterations}")
    with pytest.raises(UserError, match=r"has 2 completed runs of resnet-8-A with seed 0; give the folder of one"):
        prepare_and_check(twice, "weights=of:first")


def prepare_and_check(folder: Path, *words: str) -> None:
    check(frozen(folder, *SCENES, *DETECTION, *words))
