"""Callbacks that a run has beside the lab's own, through the command line."""

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import TINY
from PIL import Image
from pytorch_lightning import Callback
from runs import curve, execute_interrupted, only_run, points, stopped_and_whole, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from resnet_lab.callbacks import image_grid
from resnet_lab.callbacks.ema import Average
from resnet_lab.callbacks.image_grid import ImageGrid
from resnet_lab.config.again import command_line
from resnet_lab.notebook import load
from resnet_lab.report.paper import is_papers_cifar
from resnet_lab.runs.directory import Run
from resnet_lab.runs.worker import execute
from resnet_lab.training.checkpoint import read_checkpoint
from resnet_lab.training.job import build_trainer

Call = Callable[..., subprocess.CompletedProcess[str]]
Tiny = Callable[..., tuple[Run, dict[str, Any]]]
EMA = ("callbacks=ema", "callbacks.ema.decay=0.5")
ALL = ("callbacks=[ema,gradient_norms,image_grid]", "callbacks.gradient_norms.every=2")
COLUMNS = ("train_error", "train_loss", "lr")


def of_net(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if name.startswith("net.")}


def test_ema_is_the_average_and_leaves_the_training_alone(tiny: Tiny) -> None:
    average: dict[str, torch.Tensor] = {}
    for iterations in range(1, 6):
        run, config = tiny("schedule=constant", f"iterations={iterations}", f"experiment_name=of{iterations}")
        assert execute(run, config) == 0
        now = of_net(weights(run))
        floats = {name: tensor for name, tensor in now.items() if tensor.is_floating_point()}
        average = {
            name: tensor if not average else (average[name] + tensor) / 2 for name, tensor in floats.items()
        }
    averaged, config = tiny("schedule=constant", "iterations=5", *EMA)
    assert execute(averaged, config) == 0
    stored = of_net(weights(averaged))
    for name, tensor in average.items():
        assert torch.allclose(stored[name], tensor, atol=1e-6), name
    checkpoint = read_checkpoint(averaged.checkpoint_path)
    assert checkpoint is not None
    trained = of_net(checkpoint["current_model_state"])
    assert all(torch.equal(trained[name], tensor) for name, tensor in now.items())
    rows = [[{key: row[key] for key in COLUMNS} for row in found.metrics()] for found in (run, averaged)]
    assert rows[0] == rows[1]
    assert [row["val_loss"] for row in run.metrics()] != [row["val_loss"] for row in averaged.metrics()]


def test_several_at_once_leave_what_they_promise_and_the_stored_weights_are_the_average(
    resnet_lab: Call, tmp_path: Path
) -> None:
    ended = resnet_lab("train", *TINY, *ALL, "data.crop_padding=2", "data.flip=true")
    assert ended.returncode == 0, ended.stderr
    run = only_run(tmp_path)
    found = points(run)
    parts = ("stem", "stage1", "stage2", "stage3", "head")
    assert {tag for tag in found if tag.startswith("gradient_norm")} == {f"gradient_norm/{part}" for part in parts}
    for part in parts:
        assert [step for step, _ in found[f"gradient_norm/{part}"]] == [2, 4, 6]
        assert all(value > 0 for _, value in found[f"gradient_norm/{part}"])
    with Image.open(run.directory / "training_images.png") as picture:
        assert picture.size == (4 * 66 + 2, 4 * 66 + 2)  # of a batch of 16
        assert len(picture.getcolors(1 << 20) or ()) > 100
    assert EventAccumulator(str(run.directory)).Reload().Tags()["images"] == ["training images"]
    agreed = resnet_lab("eval", f"runs={run.directory}")
    assert agreed.returncode == 0, agreed.stdout + agreed.stderr
    record = run.record()
    assert "callbacks=[ema,gradient_norms,image_grid]" in command_line({"config": record["config"]})
    assert not is_papers_cifar(type("R", (), {"config": record["config"], "record": record})(), 8)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_they_are_resumed_exactly(tmp_path: Path, how: int) -> None:
    words = (*ALL, "iterations=150")
    run, whole = stopped_and_whole(tmp_path, how, *words)
    assert points(run) == points(whole)


def test_ema_is_resumed_exactly_from_within_an_evaluation(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    from resnet_lab.training.callbacks import Stop

    whole, config = tiny(*EMA, "experiment_name=whole")
    assert execute(whole, config) == 0
    run, config = tiny(*EMA)
    with monkeypatch.context() as patched:
        asked = Stop._asked_in

        def asked_once(self: Stop, trainer: Any, *rest: Any) -> bool:
            if trainer.state.fn == "fit" and trainer.global_step == 3:
                self.received = signal.SIGTERM
            return asked(self, trainer, *rest)

        patched.setattr(Stop, "_asked_in", asked_once)
        assert execute(run, config) == 75
    assert run.metrics() == []
    assert execute(run, config) == 0
    assert curve(run) == curve(whole)
    assert all(torch.equal(tensor, weights(run)[name]) for name, tensor in weights(whole).items())


def test_ema_is_tested_alike_where_nothing_is_left_to_train(tiny: Tiny) -> None:
    run, config = tiny(*EMA)
    assert execute(run, config) == 0
    tested = {name: error for name, error in run.record().items() if name.endswith(("_error", "_clean"))}
    run.update(status="interrupted", **dict.fromkeys(("test_error", "train_error_clean")))
    assert execute(run, config) == 0
    assert {name: run.record()[name] for name in tested} == tested


def test_images_of_several_sizes_make_one_picture(tiny: Tiny) -> None:
    images = [torch.zeros(3, 8, 12), torch.zeros(3, 10, 6)]
    data = SimpleNamespace(denormalize=lambda images: images + 0.5)
    folder = tiny()[0].directory
    trainer = SimpleNamespace(
        global_step=0, is_global_zero=True, datamodule=data, default_root_dir=str(folder), loggers=[]
    )
    ImageGrid().on_train_batch_start(trainer, None, SimpleNamespace(images=images), 0)  # type: ignore[arg-type]
    assert (folder / image_grid.FILE).exists()


STOPPED = (
    *("callbacks=early_stopping", "callbacks.early_stopping.patience=2", "data.holdout=10"),
    *("optimizer.lr=1e-9", "iterations=60"),
)


def test_early_stopping_ends_a_run_that_is_complete_then(resnet_lab: Call, tmp_path: Path) -> None:
    ended = resnet_lab("train", *TINY, *STOPPED)
    assert ended.returncode == 0, ended.stderr
    run = only_run(tmp_path)
    record, rows = run.record(), run.metrics()
    end = int(rows[-1]["step"])
    assert end < 60
    assert (record["iterations"], record["stopped_early"]) == (end, end)
    errors = [float(row["val_error"]) for row in rows]
    assert min(errors[-2:]) >= min(errors[:-2])
    assert "is complete" in resnet_lab("train", *TINY, *STOPPED).stderr
    agreed = resnet_lab("eval", "runs=outputs")
    assert agreed.returncode == 0, agreed.stdout
    assert resnet_lab("report", "outputs").returncode == 0
    said = f"seed 0 was stopped early by a callback, after iteration {end} of 60."
    assert said in (tmp_path / "outputs/report.md").read_text()
    assert load(run.directory).record["stopped_early"] == end
    # one that was killed in its test does not train on
    run.update(status="interrupted", stopped_early=None, iterations=None)
    assert resnet_lab("train", *TINY, *STOPPED).returncode == 0
    assert curve(run) == [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]
    # and a record that claims an early end without one is not believed
    run.update(stopped_early=end - 2)
    assert not run.is_complete()


@pytest.mark.parametrize("how", ["killed", "killed after a save", "asked to stop"])
def test_early_stopping_counts_on_from_where_it_was(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    words = (*STOPPED, "callbacks.early_stopping.patience=3")
    whole, config = tiny(*words, "experiment_name=whole")
    assert execute(whole, config) == 0
    end = whole.record()["stopped_early"]
    assert end < 60
    run, config = tiny(*words)
    # each of the three evaluations in vain is counted by another process
    execute_interrupted(run, config, (end - 5, end - 3, end - 1), how, monkeypatch)
    assert curve(run) == curve(whole)
    assert run.record()["stopped_early"] == end
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(run)[name]), name


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["callbacks=early_stopping"], "callbacks=early_stopping needs data.holdout"),
        (
            ["callbacks=ema", "trainer=ddp_cpu"],
            "callbacks=ema is for one process, got several; set trainer",
        ),
        (["callbacks=emma"], "callbacks=emma does not exist; did you mean callbacks=ema?"),
        (["callbacks=ema", "callbacks.ema.decay=1"], "callbacks.ema.decay must be a number in [0, 1), got 1"),
        (["callbacks=ema", "callbacks.ema.decay=x"], "callbacks.ema.decay must be a number, got 'x'"),
        (
            ["callbacks=ema", "+callbacks.ema.use_buffers=false"],
            "ema.use_buffers is not a setting of EMA",
        ),
        (
            ["callbacks=gradient_norms", "callbacks.gradient_norms.every=0"],
            "every must be a positive integer",
        ),
        (["+callbacks.x._target_=my_calls.Mine"], "to use your own code, add --trust-package my_calls"),
        (
            ["+callbacks.x._target_=pytorch_lightning.callbacks.ModelCheckpoint"],
            "callbacks.x._target_ must be a class of resnet_lab.callbacks, got",
        ),
        (["+callbacks.x=5"], "callbacks must be blocks with a _target_, each under a name"),
    ],
)
def test_refused(resnet_lab: Call, tmp_path: Path, words: list[str], told: str) -> None:
    ended = resnet_lab("train", *TINY, *words)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_callback_of_ones_own(resnet_lab: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf/callbacks").mkdir(parents=True)
    (tmp_path / "conf/callbacks/note.yaml").write_text("note:\n  _target_: my_calls.Note\n  word: hello\n")
    (tmp_path / "my_calls.py").write_text(
        "from pathlib import Path\n"
        "from pytorch_lightning import Callback\n\n"
        "class Note(Callback):\n"
        "    def __init__(self, word):\n"
        "        self.word = word\n\n"
        "    def on_train_end(self, trainer, module):\n"
        "        Path(trainer.default_root_dir, 'note.txt').write_text(self.word)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = ("--trust-package", "my_calls", "--config-dir", "conf", *TINY, "callbacks=[note,gradient_norms]")
    ended = resnet_lab("train", *words)
    assert ended.returncode == 0, ended.stderr
    run = only_run(tmp_path)
    assert (run.directory / "note.txt").read_text() == "hello"
    assert "my_calls" in run.record()["trusted_packages"]
    shutil.rmtree(tmp_path / "outputs")
    ended = resnet_lab("train", *words[2:])
    assert "add --trust-package my_calls" in ended.stderr
    assert not (tmp_path / "outputs").exists()


class Noting(Callback):
    """Log under the names of the lab's own values, in every second epoch alone, and keep a state."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.current_epoch % 2:
            module.log("train/weights", 1.0, on_step=False, on_epoch=True, batch_size=1)

    def state_dict(self) -> dict[str, Any]:
        return {"state": self.state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state["state"]


def test_what_callbacks_log_under_our_names_is_no_part_of_the_curves(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    noted, config = tiny("experiment_name=noted")
    add_callback(Noting(1), monkeypatch)
    assert execute(noted, config) == 0
    assert curve(noted) == curve(run)


def test_a_state_that_no_run_could_resume_from_is_refused_when_it_is_first_saved(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, config = tiny()
    add_callback(Noting(Path("best")), monkeypatch)
    assert execute(run, config) == 1
    error = run.record()["error"]
    assert "a checkpoint must be of tensors, numbers, strings, lists and dicts" in error
    assert "pathlib" in error
    assert "Noting" in error
    assert not run.has_checkpoint()


def add_callback(callback: Callback, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*given: Any) -> Any:
        trainer = build_trainer(*given)
        trainer.callbacks.insert(0, callback)  # type: ignore[attr-defined]
        return trainer

    monkeypatch.setattr("resnet_lab.training.job.build_trainer", build)


def test_the_average_is_torchs() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    how = {"device": torch.device("cpu"), "use_buffers": True, "avg_fn": get_ema_avg_fn(0.9)}
    ours, theirs = Average(net, **how), AveragedModel(net, **how)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
        ours.update_parameters(net)
        theirs.update_parameters(net)
    same = theirs.state_dict()
    assert same["n_averaged"] == 3
    assert all(torch.equal(tensor, same[name]) for name, tensor in ours.state_dict().items())
