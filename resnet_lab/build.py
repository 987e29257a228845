"""From a block of the config to the object it names."""

import difflib
import functools
import inspect
from typing import Any

from hydra.utils import get_object, instantiate

from resnet_lab.checks import UserError

# A config may come from anywhere; it may make only what this project trains with.
CLASSES = (
    "resnet_lab.data",
    "resnet_lab.models",
    "resnet_lab.schedule",
    "torch.optim",
    "pytorch_lightning.trainer",
    "pytorch_lightning.strategies",
)
FUNCTIONS = ("resnet_lab.models",)


def build(block: str, config: dict[str, Any], **facts: Any) -> Any:
    """Instantiate the block of that name, with facts that only the other blocks know.

    Raises:
        UserError: its `_target_` is not allowed or not there, or does not take its settings.
    """
    check_targets(block, config)
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    check_settings(block, get_object(config["_target_"]), settings, set(facts))
    try:
        made = instantiate(config, _convert_="all", **facts)
    except Exception as error:
        # Hydra wraps what the constructor raised, and quotes it over several lines
        cause = error.__cause__ or error
        raise cause if isinstance(cause, UserError) else complaint(block, cause, settings) from error
    return guarded(block, made, settings) if config.get("_partial_") else made


def complaint(block: str, error: BaseException, settings: dict[str, Any]) -> UserError:
    """What a constructor said, under the block's name; with the settings, if it named none of them."""
    named = any(name in str(error) for name in settings)
    shown = "" if named else f" ({', '.join(f'{block}.{name}={value!r}' for name, value in settings.items())})"
    return UserError(f"{block}: {error}{shown}")


def guarded(block: str, make: functools.partial[Any], settings: dict[str, Any]) -> Any:
    """The same factory with its complaints under the block's name."""

    def made(*args: Any) -> Any:
        try:
            return make(*args)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise complaint(block, error, settings) from error

    return made


def check_targets(where: str, value: Any) -> None:
    """Refuse every `_target_`, at any depth, that is outside the allowed packages."""
    if isinstance(value, dict):
        if "_target_" in value:
            check_target(where, str(value["_target_"]))
        for key, inner in value.items():
            check_targets(f"{where}.{key}", inner)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            check_targets(f"{where}[{position}]", inner)


def check_target(where: str, target: str) -> None:
    """Judge what the name leads to, not the name: modules have other modules as attributes."""
    try:
        found = get_object(target)
    except Exception as error:
        raise UserError(f"{where}._target_: there is no {target!r}") from error
    home = f"{getattr(found, '__module__', '')}."
    allowed = CLASSES if inspect.isclass(found) else FUNCTIONS if inspect.isfunction(found) else ()
    if not home.startswith(tuple(f"{package}." for package in allowed)):
        raise UserError(
            f"{where}._target_ must be a class of {', '.join(CLASSES)} or a function of "
            f"{', '.join(FUNCTIONS)}; got {target!r}"
        )


def check_settings(block: str, target: Any, settings: dict[str, Any], facts: set[str]) -> None:
    """Refuse a setting that the target does not take, naming one that it does."""
    if given := facts & set(settings):
        raise UserError(f"{block}.{min(given)} is set by the lab; leave it out")
    allowed = parameters(target)
    for name in settings:
        if name not in allowed:
            close = difflib.get_close_matches(name, allowed, 1)
            hint = f"did you mean {block}.{close[0]}?" if close else f"it takes {', '.join(sorted(allowed))}"
            raise UserError(f"{block}.{name} is not a setting of {target.__name__}; {hint}")


def parameters(target: Any) -> set[str]:
    """The names of the arguments, followed up the bases as long as a constructor passes **settings on."""
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
