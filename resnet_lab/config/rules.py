"""What a value of a config may be, where no constructor says so. Imports no torch, so it answers at once."""

import importlib.util
import math
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from resnet_lab.checks import UserError, hint
from resnet_lab.runs.claims import read_claims
from resnet_lab.runs.identity import sanitize
from resnet_lab.runs.jobs import NAMES, job_of, trains
from resnet_lab.runs.processes import CORES, devices

# The Trainer has more; those would have a run train or evaluate on less than it says, or not to its end.
TRAINER_SETTINGS = {
    *("_target_", "accelerator", "devices", "num_nodes", "strategy", "precision", "sync_batchnorm"),
    *("gradient_clip_val", "gradient_clip_algorithm", "deterministic", "benchmark", "detect_anomaly", "profiler"),
    *("check_val_every_n_epoch", "val_check_interval"),
}
INSTEAD = {
    "accumulate_grad_batches": "set data.batch_size, which is shared out between trainer.devices",
    "fast_dev_run": "take 'experiment=[NAME,smoke]' or experiment=smoke, or set iterations=2",
    "limit_train_batches": "set data.subset to train on fewer images, or iterations to train for less",
    "max_epochs": "set iterations",
    "max_steps": "set iterations",
}
SERVICES = {"resnet_lab.loggers.WandB": "wandb", "resnet_lab.loggers.MLflow": "mlflow"}
PROTOCOLS = {
    "center_crop": {"shorter_side"},
    "ten_crop": {"shorter_side"},
    "multi_scale": {"shorter_sides", "mirrored"},
    "recorded": set[str](),
}


class Rule(NamedTuple):
    """Whether a value is allowed, and what is, in words that follow `must be`."""

    allows: Callable[[Any], Any]
    allowed: str
    then: str = ","


def check_values(config: dict[str, Any], command: str) -> None:
    """Refuse what no constructor would see in the resolved config of a command.

    Raises:
        UserError: a value is out of its range, of another type, or not finite; a setting of the runtime, the
            Trainer or the protocol is not there.
    """
    for key, rule in RULES[command].items():
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        check(key, value, rule)
    check_finite("", config)
    for block in ("runtime", "verdict"):
        known = [key.partition(".")[2] for key in RULES[command] if key.startswith(f"{block}.")]
        check_known(block, config.get(block, ()), known)
    if command == "train":
        check_named("callbacks", config.get("callbacks") or {}, "callbacks=[ema,gradient_norms]")
        check_named("logger", config.get("logger") or {}, "logger=[tensorboard,csv]")
        check_callbacks(config)
        check_iterations(config)
        check_loggers(config.get("logger") or {})
    if command in ("train", "eval"):
        check_trainer(config["trainer"])
    if command == "eval":
        check_protocol(config["protocol"])


def check(key: str, value: Any, rule: Rule) -> None:
    """Raise UserError unless the rule allows the value of that key."""
    if not rule.allows(value):
        raise UserError(f"{key} must be {rule.allowed}{rule.then} got {value!r}")


def check_known(block: str, settings: Iterable[str], known: Collection[str]) -> None:
    """Raise UserError unless each setting of the block is one of those known."""
    for name in settings:
        if name not in known:
            raise UserError(f"{block}.{name} is not a setting here; {hint(name, known, f'{block}.')}")


def check_iterations(config: dict[str, Any]) -> None:
    """Refuse none for a job that is no training, and weights of an iteration that is never reached."""
    if not config["iterations"] and not trains(config):
        raise UserError(f"iterations=0 leaves job={config['job']} nothing to do; give a positive integer")
    late = [place for place in config["analyze_at"] or [] if place != "last" and place > config["iterations"]]
    if late:
        raise UserError(f"analyze_at has iteration {late[0]}, and there are {config['iterations']} iterations")


def check_run_dir(config: dict[str, Any]) -> None:
    if Path(config["run_dir"]) != Path(
        config["output_root"], config["experiment_name"], config["run_name"], f"seed{config['seed']}"
    ):
        raise UserError("run_dir follows from output_root, experiment_name, run_name and seed; set these")


def check_trainer(trainer: dict[str, Any]) -> None:
    """Refuse settings by which a run would not be trained or evaluated as it says."""
    for name in trainer:
        if remedy := INSTEAD.get(name):
            raise UserError(f"trainer.{name} is not a setting here; {remedy}")
    check_known("trainer", trainer, TRAINER_SETTINGS)
    every = trainer.get("check_val_every_n_epoch", 1)
    if every not in (1, None):
        # anything else would leave the last iteration without an evaluation
        raise UserError(
            "trainer.check_val_every_n_epoch must be 1, or null to have trainer.val_check_interval count "
            f"iterations; got {every!r}"
        )
    interval = trainer.get("val_check_interval", 1.0)
    counted = is_integer(interval, 1) and every is None
    if not counted and not (isinstance(interval, float) and 0 < interval <= 1 and every == 1):
        raise UserError(
            "trainer.val_check_interval must be a part of an epoch in (0, 1], or a number of iterations with "
            f"trainer.check_val_every_n_epoch=null; got {interval!r}"
        )


def check_named(group: str, of_group: Any, example: str) -> None:
    """Refuse a group that is not blocks with a _target_, each under a name.

    Raises:
        UserError: it is not.
    """
    blocks = list(of_group.values()) if isinstance(of_group, dict) else [of_group]
    if not all(isinstance(block, dict) and "_target_" in block for block in blocks):
        raise UserError(
            f"{group} must be blocks with a _target_, each under a name, got {of_group!r}; choose by '{example}'"
        )


def check_callbacks(config: dict[str, Any]) -> None:
    """Refuse callbacks that would not do here what they say.

    Raises:
        UserError: there are such.
    """
    targets = [str(block["_target_"]).rpartition(".")[2] for block in (config.get("callbacks") or {}).values()]
    if "EarlyStopping" in targets and not config["data"].get("holdout"):
        raise UserError(
            "callbacks=early_stopping needs data.holdout: without images held out, the validation error is the "
            "test error, and nothing is stopped by that; set data.holdout=5000"
        )
    if "EMA" in targets and devices(config["trainer"]) * (config["trainer"].get("num_nodes") or 1) > 1:
        raise UserError("callbacks=ema is for one process, got several; set trainer.devices=1")


def check_loggers(loggers: dict[str, Any]) -> None:
    """Refuse loggers whose package is not installed.

    Raises:
        UserError: there is one.
    """
    for block in loggers.values():
        package = SERVICES.get(str(block["_target_"]))
        if package and importlib.util.find_spec(package) is None:
            raise UserError(f"logger={package} needs {package}: pip install 'resnet-lab[{package}]'")


def check_protocol(protocol: Any) -> None:
    """Refuse a protocol that is not there, or whose settings are not its own.

    Raises:
        UserError: there is one.
    """
    name = protocol.get("name") if isinstance(protocol, dict) else None
    check("protocol.name", name, one_of(*PROTOCOLS))
    check_known("protocol", protocol, {"name", *PROTOCOLS[str(name)]})
    for setting in PROTOCOLS[str(name)]:
        check(f"protocol.{setting}", protocol.get(setting), PROTOCOL_RULES[setting])


def check_finite(where: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} must be a finite number, got {value!r}")
    for key, item in items(value):
        check_finite(f"{where}.{key}".lstrip("."), item)


def items(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()


def is_integer(value: object, least: int, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: object, least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value < math.inf


def is_devices(value: object) -> bool:
    return value in (None, "auto", -1) or isinstance(value, list) or is_integer(value, 1)


def is_name(value: object) -> bool:
    return isinstance(value, str) and value == sanitize(value)


def is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(is_name(name) for name in value)


def is_list_of_analyses(value: object) -> bool:
    return isinstance(value, list) and all(is_name(entry) or is_name_with_settings(entry) for entry in value)


def is_name_with_settings(value: object) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((name, settings),) = value.items()
    return is_name(name) and isinstance(settings, dict) and all(is_name(key) for key in settings)


def is_list_of_iterations(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(v == "last" or is_integer(v, 0) for v in value)


def read_claims_of(value: object) -> bool:
    """True, as claims that cannot be read say so themselves."""
    read_claims(value)
    return True


def is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def one_of(*words: str) -> Rule:
    return Rule(lambda value: value in words, f"one of {', '.join(words)}", ";")


NAME = Rule(is_name, "letters, digits, dots, dashes and underscores, at most 80")
SWITCH = Rule(lambda value: isinstance(value, bool), "true or false")
FOLDER = Rule(is_text, "a folder")
SEED = Rule(lambda value: is_integer(value, 0, 2**32 - 1), "an integer from 0 to 2**32 - 1")
TARGET = Rule(is_text, "the dotted name of a class or function")
FACTORY = Rule(lambda value: value is True, "true, as it is finished once the network is there")
COUNT = Rule(lambda value: is_integer(value, 1), "a positive integer")
COUNT_OR_NULL = Rule(lambda value: value is None or is_integer(value, 1), "a positive integer")
SECONDS = Rule(lambda value: is_number(value, 1), "a number of seconds, 1 or more")
PROTOCOL_RULES = {
    "shorter_side": COUNT_OR_NULL,
    "shorter_sides": Rule(lambda value: isinstance(value, list) and bool(value), "a list of lengths"),
    "mirrored": SWITCH,
}
TRAINER = {
    "trainer.profiler": Rule(
        lambda value: value in (None, "simple", "advanced"),
        "null, simple or advanced, whose reports go beside the record",
    ),
    "trainer._target_": TARGET,
    "trainer.devices": Rule(is_devices, "a number, a list of GPUs or auto"),
    "trainer.num_nodes": COUNT_OR_NULL,
}
RULES: dict[str, dict[str, Rule]] = {
    "train": {
        "seed": SEED,
        "iterations": Rule(
            lambda value: is_integer(value, 0), "a positive integer, or 0 for a net at initialization"
        ),
        "job": Rule(lambda value: job_of({"job": value}), NAMES),
        "data.policy": Rule(
            lambda value: value in (None, "rand_augment", "trivial_augment"),
            "null, rand_augment or trivial_augment",
        ),
        "label_smoothing": Rule(lambda value: is_number(value, 0) and value < 1, "a number from 0 to below 1"),
        "mixup": Rule(lambda value: is_number(value, 0), "a number, 0 or more"),
        "weights": Rule(lambda value: value is None or is_text(value), "null, a file or the folder of a run"),
        "weights_head": one_of("keep", "new"),
        "freeze": Rule(is_list_of_names, "a list of parts of the net, such as [stem,stage1]", ";"),
        "force": SWITCH,
        "output_root": FOLDER,
        "run_dir": FOLDER,
        "experiment_name": NAME,
        "run_name": NAME,
        "model._target_": TARGET,
        "data._target_": TARGET,
        "optimizer._target_": TARGET,
        "optimizer._partial_": FACTORY,
        "schedule._target_": TARGET,
        "schedule._partial_": FACTORY,
        **TRAINER,
        "verdict.margin": Rule(
            lambda value: value is None or (is_number(value, 0) and value > 0),
            "null or a positive number of points",
        ),
        "verdict.claims": Rule(read_claims_of, "a block of claims"),
        "analyses": Rule(
            is_list_of_analyses,
            "a list of names in conf/analysis, such as [responses], or with settings [{lesions: {most: 3}}]",
            ";",
        ),
        "analyze_at": Rule(
            lambda value: value is None or is_list_of_iterations(value),
            "null or a list of iterations, such as [0,100,last]",
            ";",
        ),
        "runtime.threads": Rule(
            lambda value: value is None or is_integer(value, 1, CORES), f"null or from 1 to {CORES}"
        ),
        "runtime.channels_last": SWITCH,
        "runtime.compile": SWITCH,
        "runtime.activation_checkpointing": SWITCH,
        "runtime.huge_pages": SWITCH,
        "runtime.save_every": SECONDS,
        "runtime.accept_changes": SWITCH,
        "runtime.timeout": SECONDS,
        "runtime.final_train_images": Rule(
            lambda value: value is None or is_integer(value, 0), "null or a number of images, 0 or more"
        ),
    },
    "eval": {"ensemble": SWITCH, **TRAINER},
    "analyze": {
        "jobs": COUNT_OR_NULL,
        "seed": Rule(lambda value: value is None or SEED.allows(value), f"null or {SEED.allowed}"),
        "force": SWITCH,
        "output": Rule(lambda value: value is None or is_text(value), "null or a file"),
    },
    "info": {"format": one_of("text", "json", "svg"), "detail": one_of("stages", "layers")},
    "export": {"format": one_of("torchvision", "safetensors", "onnx"), "padding": one_of("both", "end")},
}
