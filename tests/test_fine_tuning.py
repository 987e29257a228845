"""Training that starts from given weights, through the command line."""

import csv
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, frozen
from runs import only_run, rewrite, start, stopped_and_whole, weights

from resnet_lab.checks import UserError
from resnet_lab.config.again import command_line
from resnet_lab.evaluation.stored import open_run
from resnet_lab.models import alexnet, googlenet, resnet_cifar, vgg
from resnet_lab.models.structure import heads
from resnet_lab.report.paper import is_papers_cifar
from resnet_lab.runs.directory import Run
from resnet_lab.runs.first_weights import sha256_of
from resnet_lab.runs.identity import hash_of_run
from resnet_lab.runs.start import prepare
from resnet_lab.runs.swept import said
from resnet_lab.weights.start import start_from

Call = Callable[..., subprocess.CompletedProcess[str]]
NET = (*TINY, "model=cifar_resnet")
NEW = ("weights_head=new", "data.num_classes=5", "experiment_name=tuned", "freeze=[stem,stage1]")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A completed run to start from, of ten classes."""
    folder = tmp_path_factory.mktemp("first")
    assert start(folder, "model=cifar_resnet").wait() == 0
    return only_run(folder)


def in_experiment(folder: Path, name: str = "tuned") -> Run:
    (record,) = folder.glob(f"outputs/{name}/*/seed*/record.json")
    return Run(record.parent)


def of_net(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("net."): tensor for name, tensor in state.items() if name.startswith("net.")}


def test_a_run_starts_from_the_weights_of_another_with_a_new_head(
    resnet_lab: Call, tmp_path: Path, first: Run
) -> None:
    ended = resnet_lab("train", *NET, f"weights={first.directory}", *NEW)
    assert ended.returncode == 0, ended.stderr
    assert f"weights: {first.checkpoint_path} has the net's own names; its head is left out" in ended.stderr
    assert "not trained: stem, stage1" in ended.stderr
    run = in_experiment(tmp_path)
    before, begun = of_net(weights(first)), open_run(run.directory, "initialization").net.state_dict()
    last = of_net(weights(run))
    fresh = frozen(tmp_path, *NET, "data.num_classes=5")
    head = open_fresh_head(fresh)
    for name, tensor in begun.items():
        assert torch.equal(tensor, head[name] if name.startswith("head") else before[name]), name
        is_frozen = name.startswith(("stem", "stage1"))
        assert torch.equal(last[name], tensor) == is_frozen, name
    fact = run.record()["weights"]
    assert fact["file"] == str(first.checkpoint_path)
    told = subprocess.run(["sha256sum", first.checkpoint_path], capture_output=True, text=True, check=True)
    assert fact["sha256"] == told.stdout.split()[0] == run.record()["config"]["weights_sha256"]
    agreed = resnet_lab("eval", f"runs={run.directory}")
    assert agreed.returncode == 0, agreed.stdout + agreed.stderr


def open_fresh_head(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The first weights of a run that starts from none."""
    from resnet_lab.evaluation.stored import open_fresh

    return dict(open_fresh(config["model"], config["data"], config["seed"]).net.state_dict())


def test_which_weights_makes_another_run_and_where_they_are_does_not(tmp_path: Path, first: Run) -> None:
    copy, other = tmp_path / "copy.ckpt", tmp_path / "other.ckpt"
    shutil.copy(first.checkpoint_path, copy)
    other.write_bytes(b"other")
    names = [
        frozen(tmp_path, *NET, *words)["run_name"]
        for words in (
            [],
            [f"weights={first.directory}"],
            [f"weights={copy}"],
            [f"weights={other}"],
            [f"weights={copy}", "weights_head=new"],
            ["freeze=[stem]"],
        )
    ]
    assert names[1] == names[2]
    assert len(set(names)) == 5
    stored = frozen(tmp_path, *NET)
    for key in ("weights", "weights_head", "weights_sha256", "freeze"):
        del stored[key]  # as records were before these keys
    assert frozen(tmp_path, *NET)["run_name"] == names[0]
    configs = [frozen(tmp_path, *NET, f"weights={file}") for file in (copy, other)]
    assert said(configs[0], ["weights_sha256"]) == f"weights {configs[0]['weights_sha256'][:8]}"
    assert f"weights={copy}" in command_line({"config": configs[0]})


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_resumed_to_the_same_curve_and_weights(tmp_path: Path, first: Run, how: int) -> None:
    words = ("model=cifar_resnet", f"weights={first.directory}", *NEW, "iterations=150")
    run, whole = stopped_and_whole(tmp_path, how, *words)
    assert run.record()["weights"] == whole.record()["weights"]


@pytest.mark.parametrize(("format", "name"), [("torchvision", "net.pth"), ("safetensors", "net.safetensors")])
def test_files_of_others_are_started_from(
    resnet_lab: Call, tmp_path: Path, first: Run, format: str, name: str
) -> None:
    assert resnet_lab("export", f"run={first.directory}", f"format={format}", f"output={name}").returncode == 0
    ended = resnet_lab("train", *NET, f"weights={name}", *NEW)
    assert ended.returncode == 0, ended.stderr
    run = in_experiment(tmp_path)
    assert run.record()["config"]["weights"] == str(tmp_path / name)
    begun, before = open_run(run.directory, "initialization").net.state_dict(), of_net(weights(first))
    assert all(torch.equal(begun[key], before[key]) for key in begun if not key.startswith("head"))
    (tmp_path / name).unlink()
    # its own checkpoint is enough to evaluate it
    assert resnet_lab("eval", f"runs={run.directory}").returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["weights=nowhere.pth"],
            "nowhere.pth does not exist; give a file of weights or the folder of a completed",
        ),
        (["weights=bad.pth"], "bad.pth cannot be read: it is truncated, damaged or of another kind"),
        (
            ["weights=FIRST", "data.num_classes=5"],
            "choose data with 10 classes or, to train it on, weights_head=new",
        ),
        (
            ["weights=FIRST", "model.width=6", "weights_head=new"],
            "stem.0.weight has shape (4, 3, 3, 3), the net's (6",
        ),
        (["weights_head=new"], "weights_head=new needs weights=FILE"),
        (["weights_head=other"], "weights_head must be one of keep, new"),
        (["weights=5"], "weights must be null, a file or the folder of a run, got 5"),
        (["freeze=[stem,stage9]"], "freeze: stage9 is not a part of this net with weights; did you mean stage3?"),
        (["freeze=stem"], "freeze must be a list of parts of the net, such as [stem,stage1]"),
        (["freeze=[stem,stage1,stage2,stage3,head]"], "leaves nothing to train"),
        (["weights=FIRST", "job=throughput"], "weights are for job=train"),
    ],
)
def test_refused_before_a_folder_is_made(
    resnet_lab: Call, tmp_path: Path, first: Run, words: list[str], told: str
) -> None:
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    words = [word.replace("FIRST", str(first.directory)) for word in words]
    ended = resnet_lab("train", *NET, *words)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_a_sweep_is_refused_whole_and_an_unfinished_run_is_no_start(
    resnet_lab: Call, tmp_path: Path, first: Run
) -> None:
    ended = resnet_lab("train", "-m", *NET, f"weights={first.directory}", "model.width=4,6")
    assert ended.returncode == 1
    assert "does not fit the net" in ended.stderr
    assert not (tmp_path / "outputs").exists()
    copied = tmp_path / "copied"
    shutil.copytree(first.directory, copied)
    Run(copied).update(status="interrupted")
    ended = resnet_lab("train", *NET, f"weights={copied}")
    assert f"the run in {copied} is interrupted, and its weights may change" in ended.stderr


def test_a_run_is_resumed_only_from_the_weights_that_it_began_with(tmp_path: Path, first: Run) -> None:
    shutil.copytree(first.directory.parents[2], tmp_path / "outputs")
    words = (*NET, "weights=of:default", "experiment_name=tuned")
    config = frozen(tmp_path / "outputs", *words)
    run = prepare(config)
    assert run is not None
    begun = sha256_of(first.checkpoint_path)[:12]
    rewrite(
        in_experiment(tmp_path, "default").checkpoint_path, lambda checkpoint: checkpoint.update(note="another")
    )
    with pytest.raises(
        UserError, match=rf"has the sha256 .*, but the run starts from {begun}\.\.\.; put that file"
    ):
        start_from(resnet_cifar(8, "A"), config)
    now = frozen(tmp_path / "outputs", *words)
    # of the same name, as the runs of other seeds are
    assert now["run_dir"] == config["run_dir"]
    with pytest.raises(UserError, match=rf"holds another run: weights_sha256='\w+' \(was '{begun}"):
        prepare(now)
    assert hash_of_run(now) != hash_of_run(config)


def test_the_heads_of_each_net() -> None:
    with torch.device("meta"):
        nets = (resnet_cifar(8, "A"), vgg(11), alexnet(), googlenet(auxiliary=True), googlenet(auxiliary=False))
        found = [heads(net) for net in nets]
    assert found == [["head.2"], ["classifier.6"], ["classifier.6"], ["aux1.fc2", "aux2.fc2", "fc"], ["fc"]]


def test_what_was_fine_tuned_does_not_stand_beside_the_papers_numbers(tmp_path: Path, first: Run) -> None:
    class Ran:
        def __init__(self, *words: str) -> None:
            self.record = {"data": {"train_images": 50000, "test_images": 10000, "official": True}}
            net = ("data=cifar10", "model=cifar_resnet", "model.depth=20", "iterations=64000")
            self.config = frozen(tmp_path, *net, *words)

    assert is_papers_cifar(Ran(), 20)  # type: ignore[arg-type]
    assert not is_papers_cifar(Ran("freeze=[stem]"), 20)  # type: ignore[arg-type]
    assert not is_papers_cifar(Ran(f"weights={first.directory}"), 20)  # type: ignore[arg-type]


def test_a_sweep_over_weights_names_them(resnet_lab: Call, tmp_path: Path, first: Run) -> None:
    assert resnet_lab("train", "-m", *NET, f"weights=null,{first.directory}").returncode == 0
    with (tmp_path / "outputs/default/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(bool(row["weights_sha256"]) for row in rows) == [False, True]
