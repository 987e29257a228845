"""Stored runs opened again: their nets and data at the end and at the beginning, and checkpoints of before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import rewrite, weights

from resnet_lab.analyses.measured import normalizations, with_batch_statistics
from resnet_lab.checks import UserError
from resnet_lab.evaluation.chosen import chosen
from resnet_lab.evaluation.stored import open_run, open_weights
from resnet_lab.runs.directory import Run
from resnet_lab.runs.identity import hash_of_run
from resnet_lab.runs.sealed import digest_of, sealed, unsealed
from resnet_lab.runs.worker import execute
from resnet_lab.tasks.classification import Classifier
from resnet_lab.training.callbacks import StopAtIteration
from resnet_lab.training.checkpoint import read_checkpoint

Tiny = Callable[..., tuple[Run, dict[str, Any]]]


def assert_same(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(state) == list(expected)
    for name, tensor in state.items():
        assert torch.equal(tensor, expected[name]), name


def net_of(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix("net."): tensor for name, tensor in state.items() if name.startswith("net.")}


def as_of_before(checkpoint: dict[str, Any]) -> None:
    """The identity where older versions put it."""
    checkpoint["callbacks"]["Curves"]["run"] = checkpoint.pop("run")


@pytest.mark.parametrize(
    "overrides",
    [(), ("model=cifar_resnet", "model.shortcut=B", "runtime.activation_checkpointing=true", "seed=3")],
)
def test_a_run_is_opened_as_it_ended_and_as_it_began(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    began: list[dict[str, torch.Tensor]] = []

    def note(self: StopAtIteration, trainer: object, module: Classifier) -> None:
        began.append({name: tensor.clone() for name, tensor in module.net.state_dict().items()})

    monkeypatch.setattr(StopAtIteration, "on_train_start", note)
    run, config = tiny(*overrides)
    assert execute(run, config) == 0
    torch.manual_seed(5)
    state = torch.get_rng_state()
    ended, first = open_run(run.directory), open_run(run.directory, at="initialization")
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(ended.net.state_dict(), net_of(weights(run)))
    assert_same(first.net.state_dict(), began[0])
    assert (ended.name, ended.config, ended.iteration) == (str(run.directory), config, 6)
    assert ended.digest == digest_of(run.checkpoint_path)
    assert (first.iteration, first.digest) == (0, "")
    assert ended.data.expected_checksum == run.record()["data"]["sha256"]


def test_a_checkpoint_of_a_run_is_opened_with_the_runs_config(tiny: Tiny) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    before = run.checkpoint_path.with_name("previous-last.ckpt")
    subject = open_run(before)
    assert (subject.iteration, subject.config) == (3, config)
    assert subject.note == f"weights of iteration 3 of 6 in {before}"
    run.checkpoint_path.write_bytes(b"damaged")
    assert open_run(run.directory).note == subject.note
    with pytest.raises(UserError, match=r"last.ckpt is missing or damaged$"):
        open_run(run.checkpoint_path)


def test_of_several_checkpoints_of_a_run_each_is_taken_once(tiny: Tiny) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    last, before = run.checkpoint_path, run.checkpoint_path.with_name("previous-last.ckpt")
    found, whole = chosen([str(path) for path in (before, last, run.directory, before)])
    assert ([stored.checkpoint for stored in found], whole) == ([before, last], True)


def test_analyses_leave_frozen_layers_the_statistics_that_they_trained_with(tiny: Tiny) -> None:
    run, config = tiny("freeze=[stem,stage1]")
    assert execute(run, config) == 0
    for at in ("last", "initialization"):
        batch = normalizations(with_batch_statistics(open_run(run.directory, at).net))
        by_batch = {name.partition(".")[0] for name, layer in batch.items() if layer.training}
        assert by_batch == {"stage2", "stage3"}


def test_a_file_of_weights_is_opened_for_a_model_and_data(tiny: Tiny) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    subject = open_weights(run.checkpoint_path, config["model"], config["data"])
    assert_same(subject.net.state_dict(), net_of(weights(run)))
    assert (subject.iteration, subject.note) == (None, f"{run.checkpoint_path} has the net's own names")


def test_weights_of_a_net_that_does_not_take_the_images_are_not_read(tmp_path: Path) -> None:
    model = {"_target_": "resnet_lab.models.vgg", "depth": 11}
    with pytest.raises(UserError, match="VGG does not take images of 1x8x8"):
        open_weights(tmp_path / "none.pt", model, {"_target_": "resnet_lab.data.Digits", "root": "data"})


def test_a_checkpoint_says_whose_it_is(tiny: Tiny) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    checkpoint = read_checkpoint(run.checkpoint_path)
    assert checkpoint is not None
    assert checkpoint["run"] == hash_of_run(config)
    assert "run" not in checkpoint["callbacks"]["Curves"]
    run.update(config=config | {"seed": 7})
    with pytest.raises(UserError, match=r"last.ckpt does not belong to the config in .*record.json"):
        open_run(run.directory)


def test_a_checkpoint_of_before_is_opened_and_resumed_and_one_of_nobody_is_not(tiny: Tiny) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    whole = weights(run)
    run.checkpoint_path.unlink()
    before = run.checkpoint_path.with_name("previous-last.ckpt")
    rewrite(before, as_of_before)
    assert open_run(run.directory).iteration == 3
    run.update(status="interrupted")
    assert execute(run, config) == 0
    assert_same(weights(run), whole)
    rewrite(run.checkpoint_path, lambda checkpoint: checkpoint.pop("run"))
    with pytest.raises(UserError, match="does not belong to the config"):
        open_run(run.checkpoint_path)


def test_other_images_than_the_runs_are_refused_when_they_are_read(tiny: Tiny) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    run.update(data=run.record()["data"] | {"sha256": "0" * 64})
    data = open_run(run.directory).data
    for _ in range(2):
        with pytest.raises(UserError, match=r"the images in .* are not those of the record \(sha256 "):
            data.prepare()


def test_first_weights_are_not_shown_other_images_than_the_runs(tiny: Tiny) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    run.update(data=run.record()["data"] | {"sha256": 64 * "0"})
    data = open_run(run.directory, at="initialization").data
    with pytest.raises(UserError, match=r"the images in .* are not those of the record \(sha256 "):
        data.prepare()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"config": []}, "record.json is damaged: it has no config; run it again with force=true"),
        ({"data": "abc"}, "record.json is damaged: it does not say which images the run had"),
    ],
)
def test_a_damaged_record_is_named(tiny: Tiny, edit: dict[str, Any], message: str) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    run.update(**edit)
    with pytest.raises(UserError, match=message):
        open_run(run.directory)


def test_a_config_that_builds_no_net_and_weights_of_another_are_named(tiny: Tiny) -> None:
    run, config = tiny()
    assert execute(run, config) == 0
    without = {key: value for key, value in config.items() if key != "runtime"}
    run.update(config=without)
    with pytest.raises(UserError, match=r"damaged: its config builds no net \(KeyError: 'runtime'\)"):
        open_run(run.directory, at="initialization")
    run.update(config=config)
    rewrite(run.checkpoint_path, lambda checkpoint: checkpoint["state_dict"].clear())
    with pytest.raises(UserError, match=r"last.ckpt has a checksum that holds, but no weights of this net"):
        open_run(run.directory)


def test_where_there_is_no_run_one_is_proposed(tiny: Tiny, tmp_path: Path) -> None:
    run, _ = tiny()
    with pytest.raises(UserError, match=f"{tmp_path} holds no run; did you mean {run.directory}?"):
        open_run(tmp_path)
    with pytest.raises(UserError, match=r"nowhere holds no run; give the folder of a run, one with a record.json"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="at must be one of last, initialization; got 'first'"):
        open_run(run.directory, at="first")


@pytest.mark.parametrize("content", [b"", b"short", b"\0" * 40])
def test_what_is_not_sealed_has_no_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert unsealed(path) is None
    path.write_bytes(b"".join(sealed(memoryview(content))))
    assert unsealed(path) == content
