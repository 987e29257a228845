"""From a block of the config to the object it names."""

import functools
import importlib
import inspect
import logging
from collections.abc import Callable
from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import Strategy
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from resnet_lab import analyses, models, trust
from resnet_lab.analyses.measured import Rows
from resnet_lab.checks import UserError
from resnet_lab.config.blocks import FACTS, OWN_KEYS, check_settings
from resnet_lab.config.targets import check_name, group_of, refusal, targets
from resnet_lab.data import ImageData
from resnet_lab.tasks.task import Task

log = logging.getLogger(__name__)

KINDS: dict[str, type] = {
    "model": nn.Module,
    "data": ImageData,
    "task": Task,
    "optimizer": Optimizer,
    "schedule": LRScheduler,
    "trainer": Trainer,
    "trainer.strategy": Strategy,
    "callbacks": Callback,
    "logger": Logger,
}
FACTORIES = ("optimizer", "schedule")  # with `_partial_: true`: finished once the net exists
# what constructors raise about settings; anything else is a bug and keeps its traceback
COMPLAINTS = (ArithmeticError, TypeError, ValueError, MisconfigurationException)
# Blocks that name one of our functions instead of a class.
FUNCTIONS = {
    block: [getattr(module, name) for name in module.__all__]
    for block, module in {"model": models, "analysis": analyses}.items()
}


def build(block: str, config: dict[str, Any], **facts: Any) -> Any:
    """Make the object that a block describes, given facts that only the other blocks know.

    Values are taken literally: the config is resolved already and holds no interpolations.

    Raises:
        UserError: its `_target_` is not allowed, does not exist, or does not accept its settings.
    """
    if not isinstance(config, dict) or "_target_" not in config:
        raise UserError(f"{block}._target_ is missing")
    found = {where: find(where, target) for where, target in targets(block, config)}
    own = ("_target_", "_partial_") if block in FACTORIES else ("_target_",)
    settings = {key: value for key, value in config.items() if key not in own}
    taken = parameters(found[block])
    check_settings(block, found[block].__name__, settings, taken, set(facts))
    if group_of(block) != block:  # entries of a group differ in the facts they need
        facts = {name: fact for name, fact in facts.items() if name in taken}
    try:
        made = make(block, config, found, facts)
    except COMPLAINTS as error:
        raise user_error(block, error, settings) from error
    if block in FACTORIES and config.get("_partial_"):
        return with_named_errors(block, made, settings)
    if not isinstance(made, KINDS[group_of(block)]):
        kind = KINDS[group_of(block)].__name__
        raise UserError(f"{block}: {config['_target_']} made a {type(made).__name__} instead of a {kind}")
    return made


def analysis_of(config: dict[str, Any]) -> Callable[..., Rows]:
    """The function that a block `analysis` names, with its settings; it still takes `net` and `data`.

    Raises:
        UserError: its `_target_` is not allowed, does not exist, or does not accept its settings.
    """
    function = find("analysis", config.get("_target_"))
    settings = {key: value for key, value in config.items() if key not in OWN_KEYS["analysis"]}
    check_settings("analysis", function.__name__, settings, parameters(function), FACTS["analysis"])
    return functools.partial(function, **settings)


def find(where: str, target: Any) -> Any:
    """Import the object of that name; check the name before, and the object after the import.

    Raises:
        UserError: it is not allowed, does not exist, or cannot be imported.
    """
    check_name(where, target)
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (AttributeError, ModuleNotFoundError, ValueError) as error:
        raise UserError(f"{where}._target_: there is no {target!r} ({error})") from error
    except (Exception, SystemExit) as error:  # a user's own module may raise anything
        raise UserError(f"{where}._target_: {module} cannot be imported ({error!r})") from error
    if not is_allowed(where, target, found):
        raise refusal(where, target)
    return found


def is_allowed(where: str, target: str, found: Any) -> bool:
    """Whether the object is defined in the package that was named (modules also expose others' objects) and is of
    its block's kind; in a package that the user trusts it may be a function or, inside a block, anything."""
    home = str(getattr(found, "__module__", ""))
    if home.partition(".")[0] != target.partition(".")[0]:
        return False
    of_its_kind = inspect.isclass(found) and issubclass(found, KINDS.get(group_of(where), object))
    if trust.is_trusted(target):
        return of_its_kind or inspect.isfunction(found)
    return found in FUNCTIONS[where] if where in FUNCTIONS else of_its_kind


def make(where: str, value: Any, found: dict[str, Any], facts: dict[str, Any] | None = None) -> Any:
    """Replace each dict that has a `_target_` by the object that it describes."""
    if isinstance(value, list):
        return [make(f"{where}[{place}]", inner, found) for place, inner in enumerate(value)]
    if not isinstance(value, dict):
        return value
    inner = {key: make(f"{where}.{key}", item, found) for key, item in value.items()}
    if "_target_" not in inner:
        return inner
    partial = inner.pop("_partial_", False)
    del inner["_target_"]
    arguments = inner | (facts or {})
    return functools.partial(found[where], **arguments) if partial else found[where](**arguments)


def user_error(block: str, error: Exception, settings: dict[str, Any]) -> UserError:
    """The constructor's error under the block's name, with the settings if it names none of them."""
    log.debug("%s could not be made", block, exc_info=error)
    named = any(name in str(error) for name in settings)
    shown = "" if named else f" ({', '.join(f'{block}.{name}={value!r}' for name, value in settings.items())})"
    return UserError(f"{block}: {error}{shown}")


def with_named_errors(block: str, make: functools.partial[Any], settings: dict[str, Any]) -> Any:
    """Wrap the factory so that its errors name the block."""

    def made(*args: Any) -> Any:
        try:
            return make(*args)
        except COMPLAINTS as error:
            raise user_error(block, error, settings) from error

    return made


def parameters(target: Any) -> set[str]:
    """Names of the arguments, including those of the bases as long as a constructor passes **settings on."""
    names: set[str] = set()
    constructors = (
        [vars(c).get("__init__", object.__init__) for c in target.__mro__] if inspect.isclass(target) else [target]
    )
    for constructor in constructors:
        taken = inspect.signature(constructor).parameters.values()
        names |= {p.name for p in taken if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if not any(p.kind == p.VAR_KEYWORD for p in taken):
            break
    return names - {"self"}
