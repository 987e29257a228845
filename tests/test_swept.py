"""What differs between runs, and how it is said wherever they are shown."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from conftest import TINY

from resnet_lab.runs.swept import differing, said, swept, title
from resnet_lab.sweeps.pool import LocalJob
from resnet_lab.sweeps.table import JobsTable
from resnet_lab.training.hyperparameters import hyperparameters

MODEL = {"_target_": "resnet_lab.models.resnet_cifar", "depth": 8, "shortcut": "A", "width": 16}
CONFIG: dict[str, Any] = {
    "model": MODEL,
    "data": {"_target_": "resnet_lab.data.Digits", "batch_size": 64, "root": "here"},
    "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "weight_decay": 0.0001},
    "schedule": {"_target_": "resnet_lab.schedule.MultiStep", "milestones": [10, 15]},
    "iterations": 20,
    "seed": 0,
}


def changed(**changes: Any) -> dict[str, Any]:
    """The config with `block__key=value` in it."""
    config = copy.deepcopy(CONFIG)
    for name, value in changes.items():
        block, _, key = name.partition("__")
        if key:
            config[block][key] = value
        else:
            config[name] = value
    return config


def test_the_settings_that_differ_are_named_and_no_others() -> None:
    configs = [
        changed(optimizer__lr=lr, model__depth=d, seed=d, data__root=str(d)) for lr in (0.1, 0.01) for d in (8, 14)
    ]
    assert differing(configs) == ["model.depth", "optimizer.lr"]
    assert swept(configs) == ["optimizer.lr"]


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([{"optimizer__weight_decay": 0}], "weight decay 0.0001"),
        ([{"optimizer__nesterov": True}], ""),
        ([{"trainer": {"precision": "bf16-mixed"}}], ""),
        ([{"data__batch_size": 32}, {"iterations": 40}], "batch size 64, iterations 20"),
        # what follows from another setting is left out
        ([{"iterations": 40, "schedule__milestones": [20, 30]}], "iterations 20"),
        ([{"schedule": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 20}}], "multistep"),
        ([{"model": {"_target_": "resnet_lab.models.highway", "depth": 19, "width": 8}}], ""),
        ([{"optimizer": {"_target_": "torch.optim.AdamW", "lr": 0.1}}], "SGD"),
        ([{"model__width": 8}, {"data__width": 1}], "model.width 16"),
    ],
)
def test_a_run_is_told_from_the_others_in_words(others: list[dict[str, Any]], words: str) -> None:
    assert said(CONFIG, swept([CONFIG, *(changed(**other) for other in others)])) == words


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (MODEL, "ResNet-8, option A"),
        (MODEL | {"shortcut": "none"}, "plain-8"),
        (
            {"_target_": "resnet_lab.models.vgg", "depth": 11, "batch_norm": True},
            "VGG-11 with batch normalization",
        ),
        ({"_target_": "resnet_lab.models.inception_resnet_v2"}, "Inception-ResNet-v2"),
        ({"_target_": "my_nets.tiny", "width": 3}, "tiny"),
    ],
)
def test_nets_have_the_names_that_people_write(model: dict[str, Any], name: str) -> None:
    assert title(changed(model=model)) == name


def test_the_table_of_a_sweep_has_a_column_for_each_setting_that_was_swept(
    composed: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    recipes = [(0.1, 0), (0.1, 0.0001), (0.01, 0), (0.01, 0.0001)]
    over = ("optimizer.lr={}", "optimizer.weight_decay={}")
    jobs = [LocalJob(composed(*TINY, *map(str.format, over, recipe))) for recipe in recipes]
    with JobsTable(jobs):
        for job in jobs:
            job.status = "completed"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "plain-8, lr 0.1, weight decay 0, seed 0 completed"
    header, *rows = (line.split() for line in lines[-5:])
    assert header[:5] == ["net", "lr", "weight", "decay", "seed"]
    assert [row[:5] for row in rows] == [
        ["plain-8", *(f"{value:g}" for value in recipe), "0", "completed"] for recipe in recipes
    ]


def test_tensorboard_has_what_a_sweep_varied(composed: Callable[..., dict[str, Any]]) -> None:
    config = composed("model=cifar_resnet", "+optimizer.nesterov=true", "schedule=cosine", "seed=3")
    found = hyperparameters(config)
    assert (
        found
        | {
            "net": "resnet-20-A",
            "data": "Digits",
            "depth": 20,
            "shortcut": "A",
            "width": 16,
            "optimizer": "SGD",
            "lr": 0.1,
            "weight decay": 0.0001,
            "schedule": "cosine",
            "batch size": 64,
            "iterations": 690,
            "precision": "32-true",
            "seed": 3,
            "optimizer.nesterov": True,
            "optimizer.momentum": 0.9,
            "data.holdout": 0,
        }
        == found
    )
    assert all(isinstance(value, bool | int | float | str) for value in found.values())
