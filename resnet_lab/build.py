"""From a block of the config to the object it names."""

import difflib
import functools
import inspect
from typing import Any

from hydra.utils import get_object, instantiate

from resnet_lab.checks import UserError

# A config may come from anywhere; it may name only what this project trains with.
ALLOWED = (
    "resnet_lab.models",
    "resnet_lab.data",
    "resnet_lab.schedule",
    "torch.optim",
    "torch.nn",
    "torchvision.models",
    "pytorch_lightning",
)


def build(block: str, config: dict[str, Any], **facts: Any) -> Any:
    """Instantiate the block of that name, given what only the other blocks know.

    Raises:
        UserError: its `_target_` is not allowed or not there, or does not take its settings.
    """
    check_targets(block, config)
    target = get_object(config["_target_"])
    settings = {key: value for key, value in config.items() if not key.startswith("_")}
    check_settings(block, target, settings)
    try:
        made = instantiate(config, _convert_="all", **facts)
    except Exception as error:
        # Hydra wraps what the constructor raised, and quotes it over several lines
        cause = error.__cause__ or error
        if isinstance(cause, UserError):
            raise cause from None
        raise UserError(f"{block}: {cause}") from error
    return guarded(block, made) if config.get("_partial_") else made


def guarded(block: str, make: functools.partial[Any]) -> Any:
    """The same factory with its complaints under the block's name."""

    def made(*args: Any) -> Any:
        try:
            return make(*args)
        except (TypeError, ValueError) as error:
            raise UserError(f"{block}: {error}") from error

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
    if not target.startswith(tuple(f"{package}." for package in ALLOWED)):
        raise UserError(f"{where}._target_ must be under {', '.join(ALLOWED)}; got {target!r}")
    try:
        get_object(target)
    except Exception as error:
        raise UserError(f"{where}._target_: there is no {target!r}") from error


def check_settings(block: str, target: Any, settings: dict[str, Any]) -> None:
    """Refuse a setting that the target does not take, naming one that it does."""
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
