import copy
import multiprocessing
from pathlib import Path

import pytest

from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import identity, run_name, sanitize

CONFIG = {
    "model": {"_target_": "resnet_lab.models.resnet_cifar", "depth": 20, "shortcut": "none", "width": 16},
    "data": {"_target_": "resnet_lab.data.Digits", "root": "a", "batch_size": 64, "num_workers": 0},
    "trainer": {"accelerator": "cpu", "devices": 1, "precision": "32-true"},
    "seed": 0,
    "iterations": 10,
    "job": "train",
    "runtime": {"threads": 1},
    "run_dir": "x",
}


def changed(path: str, value: object) -> dict:
    config = copy.deepcopy(CONFIG)
    *blocks, key = path.split(".")
    inner = config
    for block in blocks:
        inner = inner[block]
    inner[key] = value
    return config


@pytest.mark.parametrize(
    "path", ["seed", "runtime.threads", "data.root", "data.num_workers", "trainer.devices", "run_dir"]
)
def test_where_and_how_it_runs_is_no_part_of_the_name(path: str) -> None:
    assert run_name(changed(path, "other")) == run_name(CONFIG)


@pytest.mark.parametrize("path", ["model.width", "data.batch_size", "trainer.precision", "iterations"])
def test_all_else_is(path: str) -> None:
    assert run_name(changed(path, 7)) != run_name(CONFIG)
    assert identity(changed(path, 7)) != identity(CONFIG)


@pytest.mark.parametrize("key", ["std", "subset"])
def test_settings_that_came_later_leave_the_name_as_it_was_until_they_say_something(key: str) -> None:
    assert run_name(changed(f"data.{key}", None)) == run_name(CONFIG)
    assert run_name(changed(f"data.{key}", 5)) != run_name(CONFIG)
    imagenet = changed("data._target_", "resnet_lab.data.ImageNet")  # which had a std from the start
    named = run_name(imagenet) == run_name(imagenet | {"data": imagenet["data"] | {key: None}})
    assert named == (key == "subset")


def test_names_are_readable() -> None:
    assert run_name(CONFIG).startswith("plain-20-")
    assert run_name(changed("model.shortcut", "B")).startswith("resnet-20-B-")
    assert run_name(CONFIG | {"model": {"_target_": "torchvision.models.vgg16"}}).startswith("vgg16-")


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "-rf", "..", "a\nb", "x" * 300])
def test_sanitized_names_are_one_harmless_path_component(name: str) -> None:
    clean = sanitize(name)
    assert Path(clean).name == clean
    assert clean not in ("", ".", "..")
    assert not clean.startswith("-")
    assert len(clean) <= 80


def own(directory: str, ready, done) -> None:
    with Run(directory).ownership():
        ready.set()
        done.wait()


def test_one_process_owns_a_run_and_death_ends_it(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    ready, done = fork.Event(), fork.Event()
    other = fork.Process(target=own, args=(str(tmp_path), ready, done))
    other.start()
    ready.wait()
    run = Run(tmp_path)
    run.update(status="running")
    assert f"process {other.pid}" in str(run.owner())
    assert run.status() == "running"
    with pytest.raises(BlockingIOError, match=f"in use by process {other.pid}"), run.ownership():
        pass
    other.kill()
    other.join()
    assert run.owner() is None
    assert run.status() == "interrupted"
    with run.ownership():
        pass


def test_a_line_that_a_kill_cut_off_does_not_count(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (10, 20):
        run.append_metrics({"step": step, "train_error": 1.5})
    with run.metrics_path.open("a") as file:
        file.write("3")
    assert [row["step"] for row in run.metrics()] == ["10", "20"]
    run.keep_metrics_until(10)
    assert run.metrics_path.read_text() == "step,train_error\n10,1.5\n"
    run.keep_metrics_until(0)
    assert not run.metrics_path.exists()


def test_setting_aside_loses_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "seed0")
    run.directory.mkdir()
    run.update(status="completed")
    aside = run.set_aside()
    assert Run(aside).record() == {"status": "completed"}
    assert not run.directory.exists()
