"""Checks of values that no constructor sees. Imports no torch, so that mistakes are reported at once."""

import importlib.util
from pathlib import Path
from typing import Any

from resnet_lab.checks import UserError
from resnet_lab.config import tasks, trainer
from resnet_lab.config.values import (
    COUNT,
    COUNT_OR_NULL,
    FACTORY,
    FOLDER,
    NAME,
    NOT_FROM_HOME,
    SECONDS,
    SEED,
    SWITCH,
    TARGET,
    Rule,
    check,
    check_known,
    is_integer,
    is_list_of_names,
    is_name,
    is_number,
    is_text,
    one_of,
)
from resnet_lab.runs.claims import read_claims
from resnet_lab.runs.jobs import NAMES, job_of, trains
from resnet_lab.runs.processes import CORES, devices

SERVICES = {"resnet_lab.loggers.WandB": "wandb", "resnet_lab.loggers.MLflow": "mlflow"}
# Schedules that look at errors, which a chain does not pass on, or that set the rate when they are made.
UNCHAINED = ("MultiStepWarmup", "Plateau", "ReduceLROnPlateau", "OneCycleLR")
PROTOCOLS = {
    "center_crop": {"shorter_side"},
    "ten_crop": {"shorter_side"},
    "multi_scale": {"shorter_sides", "mirrored"},
    "recorded": set[str](),
}


def check_values(config: dict[str, Any], command: str) -> None:
    """Refuse what no constructor would see in the resolved config of a command.

    Raises:
        UserError: a value is out of its range or of another type; a setting of the runtime, the
            Trainer or the protocol is not there.
    """
    for key, rule in RULES[command].items():
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        check(key, value, rule)
    for block in ("runtime", "verdict"):
        known = [key.partition(".")[2] for key in RULES[command] if key.startswith(f"{block}.")]
        check_known(block, config.get(block, ()), known)
    if command == "train":
        check_named("callbacks", config.get("callbacks") or {}, "callbacks=[ema,gradient_norms]")
        check_named("logger", config.get("logger") or {}, "logger=[tensorboard,csv]")
        check_callbacks(config)
        check_schedule(config)
        check_iterations(config)
        tasks.check_task(config)
        check_loggers(config.get("logger") or {})
    if command in ("train", "eval"):
        trainer.check_trainer(config["trainer"])
    if command == "eval":
        check_protocol(config["protocol"])


def check_iterations(config: dict[str, Any]) -> None:
    """Refuse iterations=0 for a job that does not train, and weights of an iteration that is never reached."""
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
    """Refuse callbacks that would not do what they promise.

    Raises:
        UserError: there are such.
    """
    targets = [str(block["_target_"]).rpartition(".")[2] for block in (config.get("callbacks") or {}).values()]
    if "EarlyStopping" in targets and not config["data"].get("holdout"):
        raise UserError(
            "callbacks=early_stopping needs data.holdout: without images held out, the validation error is the "
            "test error, and nothing is stopped by that; set data.holdout=5000"
        )
    if "EMA" in targets and any(place != "last" for place in config["analyze_at"] or []):
        raise UserError(
            f"analyze_at={config['analyze_at']} keeps the weights as they are, and callbacks=ema stores their "
            "average; leave one of them out"
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


def check_schedule(config: dict[str, Any]) -> None:
    """Refuse a schedule that looks at test errors, or that ends before the training.

    Raises:
        UserError: it does.
    """
    schedule = config["schedule"]
    if schedule.get("monitor") == "val/error" and not config["data"].get("holdout"):
        raise UserError(
            "schedule.monitor=val/error needs data.holdout: without images held out, the validation error is "
            "the test error, and nothing is chosen by that; set data.holdout=5000 or schedule.monitor=train/error"
        )
    chained = {f"schedule.schedules[{i}]": one for i, one in enumerate(schedule.get("schedules", []))}
    for block, one in chained.items():
        if (name := str(one.get("_target_")).rpartition(".")[2]) in UNCHAINED:
            raise UserError(f"{block} cannot be {name}, which does not work in a chain; choose another schedule")
    for block, one in {"schedule": schedule, **chained}.items():
        constant = str(one.get("_target_")).endswith(".ConstantLR")
        if constant and one.get("factor", 1) != 1 and "total_iters" not in one:
            raise UserError(
                f"{block}.factor={one['factor']} needs total_iters, the iterations for which it holds; for the "
                "same rate throughout set optimizer.lr"
            )
        if config["iterations"] and "T_max" in one:  # a net at initialization has a fall of no iterations
            check(f"{block}.T_max", one["T_max"], COUNT)
    if is_integer(schedule.get("total_steps"), 1, config["iterations"] - 1):
        raise UserError(
            f"schedule.total_steps must be {config['iterations']} or more, as there are as many iterations, got "
            f"{schedule['total_steps']}"
        )


def check_protocol(protocol: Any) -> None:
    """Refuse an unknown protocol, and settings that it does not have.

    Raises:
        UserError: there is one.
    """
    name = protocol.get("name") if isinstance(protocol, dict) else None
    check("protocol.name", name, one_of(*PROTOCOLS))
    check_known("protocol", protocol, {"name", *PROTOCOLS[str(name)]})
    for setting in PROTOCOLS[str(name)]:
        check(f"protocol.{setting}", protocol.get(setting), PROTOCOL_RULES[setting])


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


PROTOCOL_RULES = {
    "shorter_side": COUNT_OR_NULL,
    "shorter_sides": Rule(lambda value: isinstance(value, list) and bool(value), "a list of lengths"),
    "mirrored": SWITCH,
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
        "output_root": NOT_FROM_HOME,  # which is a part of paths that Hydra makes
        "run_dir": FOLDER,
        "experiment_name": NAME,
        "run_name": NAME,
        "model._target_": TARGET,
        "data._target_": TARGET,
        "optimizer._target_": TARGET,
        "optimizer._partial_": FACTORY,
        "schedule._target_": TARGET,
        "schedule._partial_": FACTORY,
        **trainer.RULES,
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
        "runtime.compile": Rule(
            lambda value: isinstance(value, bool) or value == "reduce-overhead", "true, false or reduce-overhead"
        ),
        "runtime.activation_checkpointing": SWITCH,
        "runtime.huge_pages": SWITCH,
        "runtime.save_every": SECONDS,
        "runtime.accept_changes": SWITCH,
        "runtime.timeout": SECONDS,
        "runtime.final_train_images": Rule(
            lambda value: value is None or is_integer(value, 0), "null or a number of images, 0 or more"
        ),
    },
    "eval": {"ensemble": SWITCH, **trainer.RULES},
    "analyze": {
        "jobs": COUNT_OR_NULL,
        "seed": Rule(lambda value: value is None or SEED.allows(value), f"null or {SEED.allowed}"),
        "force": SWITCH,
        "output": Rule(lambda value: value is None or is_text(value), "null or a file"),
    },
    "info": {"format": one_of("text", "json", "svg"), "detail": one_of("stages", "layers")},
    "export": {"format": one_of("torchvision", "safetensors", "onnx"), "padding": one_of("both", "end")},
}
