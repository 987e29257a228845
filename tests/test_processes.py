"""Several processes do what one does."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forked
import pytest
import torch
from conftest import TINY
from runs import curve, only_run, start, wait_until_free
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR

from resnet_lab.checks import UserError
from resnet_lab.data import Synthetic
from resnet_lab.data.augment import crop_and_flip
from resnet_lab.data.batches import Batch, TrainBatches, TrainLoader
from resnet_lab.runs import processes
from resnet_lab.runs.directory import Run
from resnet_lab.runs.processes import check_place, devices, environments, rank, started_outside
from resnet_lab.runs.start import prepare, wait_for_first_process
from resnet_lab.runs.worker import execute
from resnet_lab.sweeps.slurm import SlurmLauncher
from resnet_lab.tasks.classification import Classifier
from resnet_lab.training.callbacks import OneRun

Composed = Callable[..., dict[str, Any]]


def linear_fit(folder: Path, processes: int) -> dict[str, Any]:
    outputs = [folder / f"{number} of {processes}" for number in range(processes)]
    started = []
    for output, place in zip(outputs, environments({"accelerator": "cpu", "devices": processes}), strict=True):
        with output.open("w") as file:
            files = {"stdout": file.fileno(), "stderr": 2}
            environ = os.environ | place
            started.append(
                forked.begin(folder, "linear_fit", str(processes), environ=environ, session=False, **files)
            )
    assert [process.wait() for process in started] == [0] * processes
    fitted: dict[str, Any] = json.loads(outputs[0].read_text().splitlines()[-1])
    return fitted


def test_two_processes_agree_with_one(tmp_path: Path) -> None:
    """In float64, with a short last batch, and evaluations on an odd number of images."""
    one, two = linear_fit(tmp_path, 1), linear_fit(tmp_path, 2)
    assert two["errors"] == pytest.approx(one["errors"], abs=1e-9)
    for name, values in one["weights"].items():
        assert two["weights"][name] == pytest.approx(values, abs=1e-12), name


def test_processes_of_two_runs_train_nothing_together(tmp_path: Path) -> None:
    given: list[torch.Tensor] = []

    def gather(here: torch.Tensor, reduce_op: str) -> torch.Tensor:
        given.append(here)
        return here

    def largest(here: torch.Tensor, reduce_op: str) -> torch.Tensor:
        return torch.stack(given).amax(0)

    def begin(name: str, reduce: Any) -> None:
        strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=reduce)
        OneRun(Run(tmp_path / name)).on_train_start(SimpleNamespace(world_size=2, strategy=strategy), None)  # type: ignore[arg-type]

    for met in (("mine", "mine"), ("mine", "theirs")):
        given.clear()
        for name in met:
            begin(name, gather)
        for name in met:  # each of them notices
            with nullcontext() if met[0] == met[1] else pytest.raises(UserError, match="a process of another run"):
                begin(name, largest)


SETTINGS = list(itertools.product((1, 2), (0, 2), (False, True)))


@pytest.mark.parametrize(("processes", "workers", "interrupted"), SETTINGS)
def test_each_image_comes_once_an_epoch_with_the_same_augmentation(
    processes: int, workers: int, interrupted: bool
) -> None:
    """(epoch, image, checksum) whatever the processes, the loaders' processes and an interruption."""
    assert sorted(trained_on(processes, workers, interrupted)) == sorted(trained_on(1, 0, False))


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_other_processes_go_on_with_the_images_that_are_left(before: int, after: int) -> None:
    data = Synthetic(root="", train_images=101, test_images=5, image_size=8, batch_size=16)
    data.prepare()
    seen, states = [], []
    for number in range(before):
        loader = loader_of(data, number, before, 0)
        seen += [int(index) for batch in itertools.islice(loader, 4) for index in batch.indices]
        states.append(loader.state_dict())
    for number in range(after):
        rest = loader_of(data, number, after, 0)
        rest.load_state_dict(states[0])
        seen += [int(index) for batch in rest for index in batch.indices]
    assert sorted(seen) == list(range(101))


def stored(of_processes: list[tuple[int, float]]) -> dict[str, Any]:
    """A checkpoint of processes that have counted so many images and have this running mean."""
    images, means = (torch.tensor(column) for column in zip(*of_processes, strict=True))
    state = {"train_tally.images": images[0], "net.running_mean": means[:, None].mean(0)}
    own = {"train_tally.images": images, "net.running_mean": means[:, None]}
    return {"state_dict": state} | ({"own": own} if len(of_processes) > 1 else {})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(16, 1.0), (15, 3.0)], [(16, 1.0), (15, 3.0)]),
        ([(16, 1.0), (15, 3.0)], [(31, 2.0)]),
        ([(31, 2.0)], [(31, 2.0), (0, 2.0)]),
        ([(31, 2.0)], [(31, 2.0)]),
        ([(16, 1.0), (15, 3.0)], [(31, 2.0), (0, 2.0), (0, 2.0)]),
    ],
    ids=["2 to 2", "2 to 1", "1 to 2", "1 to 1", "2 to 3"],
)
def test_other_processes_go_on_with_all_counts_and_mean_statistics(
    before: list[tuple[int, float]], after: list[tuple[int, float]]
) -> None:
    net = nn.BatchNorm1d(1)
    classifier = Classifier(net, lambda parameters: SGD(parameters), lambda optimizer: ConstantLR(optimizer), 2)
    found = []
    for number in range(len(after)):
        classifier._trainer = SimpleNamespace(global_rank=number, world_size=len(after))
        checkpoint = stored(before)
        classifier.on_load_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        found.append((int(state["train_tally.images"]), float(state["net.running_mean"])))
    assert found == after


def trained_on(processes: int, workers: int, interrupted: bool) -> list[tuple[int, int, str]]:
    data = Synthetic(root="", train_images=101, test_images=5, image_size=8, batch_size=16)
    data.prepare()
    seen = []
    for number in range(processes):
        for epoch in range(3):
            stop = 4 if interrupted and epoch == 1 else 99
            loader = loader_of(data, number, processes, workers)
            loader.sampler.set_epoch(epoch)
            for batch in itertools.islice(loader, stop):
                seen += what_is_seen(data, batch)
            if interrupted and epoch == 1:  # another loader, which knows the state alone
                rest = loader_of(data, number, processes, workers)
                rest.load_state_dict(loader.state_dict())
                for batch in rest:
                    seen += what_is_seen(data, batch)
    return seen


def loader_of(data: Synthetic, rank: int, processes: int, workers: int) -> TrainLoader:
    sampler = TrainBatches(101, 16, seed=3, rank=rank, world_size=processes)
    return TrainLoader(data.dataset(data.train_images(), training=True), sampler, workers)


def what_is_seen(data: Synthetic, batch: Batch) -> list[tuple[int, int, str]]:
    images = crop_and_flip(data.normalize(batch.images), 2, True, 3, batch.epoch, batch.indices)
    sums = [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images]
    return [(batch.epoch, int(index), sum_) for index, sum_ in zip(batch.indices, sums, strict=True)]


def test_a_finished_epoch_means_the_start_of_the_next() -> None:
    sampler = TrainBatches(101, 16, seed=0, rank=0, world_size=1)
    sampler.resume(4, 7)
    assert (sampler.epoch, sampler.first) == (5, 0)
    sampler.resume(4, 6)
    assert len(list(sampler)) == 1
    sampler.set_epoch(4)
    assert len(list(sampler)) == 1
    sampler.set_epoch(5)
    assert len(list(sampler)) == 7


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({"accelerator": "cpu", "devices": 1}, 1),
        ({"accelerator": "cpu", "devices": 3}, 3),
        ({"accelerator": "cpu", "devices": "auto"}, 1),
        ({"accelerator": "gpu", "devices": "auto"}, 4),
        ({"accelerator": "gpu", "devices": -1}, 4),
        ({"accelerator": "gpu", "devices": [0, 2]}, 2),
    ],
)
def test_a_process_a_device(trainer: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert devices(trainer) == len(environments(trainer)) == expected


def test_slices_of_a_gpu_are_no_further_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = "GPU 0: H200 (UUID: GPU-1)\n  MIG 1g.18gb Device 0: (UUID: MIG-2)\nGPU 1: H200 (UUID: GPU-3)\n"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(processes.shutil, "which", lambda name: name)
    monkeypatch.setattr(processes.subprocess, "run", lambda *words, **how: SimpleNamespace(stdout=listed))
    assert processes.visible_gpus() == ["0", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["trainer.devices=2", "trainer.devices=2 trainer.strategy=ddp"])
def test_processes_asked_for_without_the_block_are_those_of_the_block(tmp_path: Path, asked: str) -> None:
    """Lightning's own defaults would have every process count the first one's errors."""
    curves = []
    for number, words in enumerate((["trainer=ddp_cpu"], asked.split())):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert start(folder, *words, "iterations=6").wait() == 0
        curves.append(curve(only_run(folder)))
    assert curves[0] == curves[1]


def test_what_is_logged_is_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL reduces nothing that is on a CPU; gloo, by which the other tests go, does."""
    seen = []
    module = Classifier(nn.Linear(1, 2), lambda _: SGD([torch.zeros(1)], 0.1), lambda o: ConstantLR(o), 2)
    monkeypatch.setattr(module, "measure", lambda _: SimpleNamespace(compute_and_reset=lambda _: {"error": 1.0}))
    monkeypatch.setattr(module, "log", lambda name, value, **how: seen.append(value.device.type))
    module.to("meta")
    module._log("val")
    assert seen == ["meta"]


def test_places_given_by_others() -> None:
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}
    assert started_outside(torchrun) == ("torchrun", 3, 4)
    srun = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1"}
    assert rank(srun) == 1
    assert started_outside({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) is None
    assert rank({"LOCAL_RANK": "2"}) == 2
    check_place({"accelerator": "cpu", "devices": 2, "num_nodes": 2}, torchrun)
    with pytest.raises(UserError, match=r"is 3, but torchrun started 4 processes"):
        check_place({"accelerator": "cpu", "devices": 3}, torchrun)
    with pytest.raises(UserError, match=r"num_nodes=2 needs a launcher .*hydra/launcher=slurm, or torchrun"):
        check_place({"accelerator": "cpu", "devices": 2, "num_nodes": 2}, {})


def test_a_sweep_is_not_started_by_others(
    resnet_lab: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    sweep = resnet_lab("train", "-m", *TINY, "seed=0,1")
    assert "torchrun started 2 processes, and a sweep starts those of its runs itself" in sweep.stderr
    assert sweep.returncode == 1
    assert not (tmp_path / "outputs").exists()


def test_further_processes_of_a_complete_run_do_not_wait_for_its_owner(
    tiny: Callable[..., tuple[Run, dict[str, Any]]],
) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    with run.ownership():  # as the first process does while it looks
        assert wait_for_first_process(config) is None
        forced = wait_for_first_process(config | {"force": True})
        assert forced is not None
        assert forced.directory == run.directory


@pytest.mark.slow
def test_torchrun_starts_the_processes_of_a_run(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "resnet_lab.train", *TINY, "trainer=ddp_cpu", "iterations=9"]
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    for _ in range(2):  # the second time it is complete
        assert subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True).returncode == 0
    (tmp_path / "ours").mkdir()
    assert start(tmp_path / "ours", "trainer=ddp_cpu", "iterations=9").wait() == 0
    by_torchrun, by_us = only_run(tmp_path), only_run(tmp_path / "ours")
    assert by_torchrun.record()["processes"] == 2
    assert by_torchrun.record()["val_error"] == by_us.record()["val_error"]
    wait_until_free(by_torchrun)


def test_a_cluster_is_asked_for_a_number_of_gpus(composed: Composed) -> None:
    """The machine that submits the jobs may have none."""
    launcher: Any = object.__new__(SlurmLauncher)
    with pytest.raises(UserError, match=r"trainer.devices must be a number .* got 'auto'; set trainer.devices=4"):
        launcher.check_machine(composed("trainer=ddp"))
    for words in (["trainer=ddp", "trainer.devices=4"], ["trainer=gpu"], ["trainer=ddp_cpu"], ["trainer=cpu"]):
        launcher.check_machine(composed(*words))


def test_several_machines_need_a_launcher_for_them(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed("trainer=ddp_cpu", "trainer.num_nodes=2")  # which may be sent to a cluster from here
    with pytest.raises(UserError, match=r"num_nodes=2 needs a launcher"):
        prepare(config)
    for name, value in {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert prepare(config) is not None
