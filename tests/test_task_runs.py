"""Detection, localization and segmentation through the command line, shrunk to a few scenes."""

import importlib.util
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import forked
import pytest
import torch
from conftest import frozen
from PIL import Image
from runs import curve, execute_interrupted, only_run, wait_for_rows, wait_until_free, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_tasks import reference

import resnet_lab as lab
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
    execute_interrupted(run, config, (1, 3, 6), how, monkeypatch)
    assert_same(run, wholes[task])


def begin(folder: Path, *words: str) -> Any:
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    with open(os.devnull, "w") as nothing:
        files = {"stdout": nothing.fileno(), "stderr": nothing.fileno()}
        return forked.begin(folder, "resnet_lab.train", *SCENES, *words, environ=environ, session=False, **files)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_detector_is_resumed_wherever_it_is_stopped(tmp_path: Path, how: int, processes: int) -> None:
    words = (*DETECTION, "iterations=160", "runtime.save_every=1")
    words += () if processes == 1 else ("trainer=ddp_cpu",)
    random, folders = Random(int(how)), {name: tmp_path / name for name in ("whole", "stopped")}
    for folder in folders.values():
        folder.mkdir()
    assert begin(folders["whole"], *words).wait() == 0
    rows = 0
    for _ in range(3):
        process = begin(folders["stopped"], *words)
        run = wait_for_rows(folders["stopped"], rows + 1)
        time.sleep(random.uniform(0, 0.5))
        process.send_signal(how)
        process.wait()
        wait_until_free(run)
        rows = len(run.metrics())
        assert rows < 40
    assert begin(folders["stopped"], *words).wait() == 0
    assert_same(run, only_run(folders["whole"]))


def test_two_processes_evaluate_each_image_once(resnet_lab: Call, tmp_path: Path) -> None:
    """Three of five images in one process, eight of fifteen; a process alone finds the same errors with those
    weights."""
    ended = resnet_lab("train", *SCENES, *DETECTION, "trainer=ddp_cpu", "data.train_images=15", "iterations=40")
    assert ended.returncode == 0, ended.stderr
    run = only_run(tmp_path)
    assert run.record()["processes"] == 2
    assert 0 < run.record()["train_error_clean"] < 100
    agreed = resnet_lab("eval", f"runs={run.directory}")
    assert agreed.returncode == 0, agreed.stdout
    assert "as recorded" in agreed.stdout


def test_a_detector_is_exported_for_torchvision(resnet_lab: Call, tmp_path: Path, wholes: dict[str, Run]) -> None:
    run = wholes["detection"]
    for format, name in (("torchvision", "net.pth"), ("onnx", "net.onnx")):
        ended = resnet_lab("export", f"run={run.directory}", f"format={format}", f"output={name}")
        assert ended.returncode == (0 if name == "net.pth" else 1)
    assert "format=onnx is for nets that classify; choose torchvision or safetensors" in ended.stderr
    theirs = reference(torch.load(tmp_path / "net.pth", weights_only=True)).eval()
    finished = lab.load(run.directory)
    images, _ = next(finished.data.batches("test"))
    with torch.no_grad():
        found, same = finished.net(images), theirs(list(images))
    assert sum(len(each["boxes"]) for each in found)
    for one, other in zip(found, same, strict=True):
        torch.testing.assert_close(one, other)


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


REFUSED = [
    (("task=detection", "data=digits"), "task=detection does not go with the images of Digits; choose task=class"),
    (
        ("task=detection", "label_smoothing=0.1"),
        "label_smoothing=0.1 is for task=classification, got task=detection",
    ),
    (("task=segmentation", "mixup=0.2"), "mixup=0.2 is for task=classification, got task=segmentation"),
    (("task=detection", "analyses=[responses]"), "is for task=classification, got task=detection; leave it out"),
    (("task=detection", "job=throughput"), "job=throughput is for task=classification"),
    (("task=detection", "task.frozen_norm=true"), "task.frozen_norm=true leaves batch normalization as in given"),
    (("task=localization",), r"one object in each image, got data.count=[1, 3]; set it to [1,1]"),
    (("task=detection", "task.stride=0"), "task.stride must be null or a positive integer, got 0"),
    (("task=detection", "model=cifar_alexnet"), "AlexNet cannot be a backbone"),
    (("task=segmentation", "task.head=unet"), "head must be one of fcn, deeplab"),
    (("task=detection", "task.anchor_sizes=[]"), "task.anchor_sizes must be a list of positive integers, got []"),
]


@pytest.mark.parametrize(("words", "told"), REFUSED)
def test_what_does_not_go_with_a_task_is_refused_at_once(
    main: Callable[..., str], tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    given = [group for word in words if (group := word.partition("=")[0]) in ("data", "model")]
    kept = [word for word in SCENES if not word.startswith(tuple(given) or "-")]
    assert told in main("train", *kept, *words)
    assert not (tmp_path / "outputs").exists()


def test_average_precision_needs_its_package(main: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if "coco" in name else found(name, *rest)
    )
    told = main("train", *SCENES, *DETECTION)
    assert "task=detection needs faster-coco-eval: pip install 'resnet-lab[detection]'" in told


def test_a_last_batch_of_one_image_is_refused_where_a_head_cannot_be_trained_on_it(composed: Composed) -> None:
    """DeepLab's normalizes the mean over an image; the others are trained on such a batch."""
    for task, words in (TASKS | {"deeplab": (*TASKS["segmentation"], "task.head=deeplab")}).items():
        config = composed(*SCENES, *words, "data.batch_size=13", "iterations=2", f"experiment_name={task}")
        run = prepare(config)
        assert run is not None
        assert (execute(run, config) == 0) == (task != "deeplab")
    assert "leaves a last batch of 1 of the 14 training images, one per process" in run.record()["error"]


def test_a_detector_is_not_analyzed_or_judged_by_a_protocol(resnet_lab: Call, wholes: dict[str, Run]) -> None:
    run = wholes["detection"]
    for words in (
        ("eval", f"runs={run.directory}", "protocol=center_crop"),
        ("analyze", "analysis=responses", f"runs={run.directory}"),
    ):
        ended = resnet_lab(*words)
        assert ended.returncode != 0
        said = ended.stdout + ended.stderr
        assert "for task=classification, and this run has task=detection" in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    "words",
    [
        ("callbacks=ema",),
        ("callbacks=image_grid",),
        ("callbacks=gradient_norms", "callbacks.gradient_norms.every=1"),
        ("schedule=plateau", "schedule.monitor=train/error"),
        ("trainer.precision=bf16-mixed",),
        ("runtime.channels_last=true",),
        ("data.num_workers=1", "data.flip=true"),
        ("task.region_head=rest",),
        ("iterations=0",),
    ],
    ids=lambda words: words[0],
)
def test_a_detector_has_what_a_classifier_has(composed: Composed, words: tuple[str, ...]) -> None:
    config = composed(*SCENES, *DETECTION, "iterations=4", *words)
    run = prepare(config)
    assert run is not None
    assert execute(run, config) == 0
    assert run.record()["status"] == "completed"
    assert len(run.metrics()) == (0 if config["iterations"] == 0 else 1)


@pytest.mark.slow
def test_a_detector_that_is_compiled_is_the_same(tmp_path: Path) -> None:
    whole, compiled = (
        trained(tmp_path, *DETECTION, "iterations=4", f"runtime.compile={how}", f"experiment_name=compile-{how}")
        for how in ("false", "true")
    )
    assert compiled.record()["compile"] is True
    for row, other in zip(curve(compiled), curve(whole), strict=True):
        assert float(row["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=1e-2)


@pytest.mark.slow
def test_a_detector_is_searched_for(resnet_lab: Call, tmp_path: Path) -> None:
    search = ("-m", "hydra/sweeper=search", "hydra.sweeper.n_trials=2", "hydra.sweeper.batch=2", "data.holdout=4")
    ended = resnet_lab("train", *SCENES, *DETECTION, *search, "optimizer.lr=interval(0.01,0.1)")
    assert ended.returncode == 0, ended.stderr
    assert len(list(tmp_path.glob("outputs/*/*/seed*/record.json"))) == 2
