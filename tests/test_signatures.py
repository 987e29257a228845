"""What is read from a constructor's source is what the constructor takes once it is imported."""

import inspect
from typing import Any

import pytest
from torch import optim
from torch.optim import lr_scheduler

from resnet_lab import data, families, models, schedule
from resnet_lab.config.build import parameters
from resnet_lab.config.signatures import Missing, settings_of
from resnet_lab.models import initialization, layer


def classes(module: Any, kind: type) -> list[str]:
    found = (getattr(module, name) for name in dir(module) if not name.startswith("_"))
    return [f"{module.__name__}.{c.__name__}" for c in found if inspect.isclass(c) and issubclass(c, kind)]


TARGETS = [
    *(f"resnet_lab.models.{name}" for name in models.__all__),
    *(f"resnet_lab.data.{name}" for name in data.__all__),
    *classes(schedule, lr_scheduler.LRScheduler),
    *classes(lr_scheduler, lr_scheduler.LRScheduler),
    *classes(optim, optim.Optimizer),
]


@pytest.mark.parametrize("target", TARGETS)
def test_the_source_says_what_the_import_does(target: str) -> None:
    module, _, name = target.rpartition(".")
    home = {m.__name__: m for m in (models, data, schedule, lr_scheduler, optim)}[module]
    assert set(settings_of(target) or ()) == parameters(getattr(home, name))


@pytest.mark.parametrize(
    "target", ["resnet_lab.models.resnet", "torch.optim.SDG", "torch.optim.lr_scheduler.MultiStp"]
)
def test_what_is_not_there_is_missing(target: str) -> None:
    with pytest.raises(Missing):
        settings_of(target)


@pytest.mark.parametrize("target", ["nowhere.at_all", "torch.optim.nowhere.SGD", "resnet_lab.families.RULES"])
def test_where_the_source_is_not_plain_nothing_is_said(target: str) -> None:
    assert settings_of(target) is None


def test_each_rule_for_a_depth_is_for_a_net() -> None:
    assert {target.rpartition(".")[2] for target in families.RULES} <= set(models.__all__)


def test_what_a_family_allows_is_what_there_is() -> None:
    assert tuple(layer.NORMS) == families.NORMS
    assert tuple(layer.ACTIVATIONS) == families.ACTIVATIONS
    assert tuple(initialization.INITIALIZATIONS) == families.INITIALIZATIONS
    for target, choices in families.CHOICES.items():
        assert choices.keys() <= settings_of(target).keys(), target  # type: ignore[union-attr]
