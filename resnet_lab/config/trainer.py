"""Settings of the Trainer that a run may have, and their ranges. Imports no torch."""

from typing import Any

from resnet_lab.checks import UserError
from resnet_lab.config.values import (
    COUNT_OR_NULL,
    NOT_NEGATIVE,
    SWITCH_OR_NULL,
    TARGET,
    Rule,
    check_known,
    is_integer,
    one_of,
    or_null,
)

# Of settings that would have a run train or evaluate on less than it says, or not to its end.
INSTEAD = {
    "accumulate_grad_batches": "set data.batch_size, which is shared out between trainer.devices",
    "fast_dev_run": "take 'experiment=[NAME,smoke]' or experiment=smoke, or set iterations=2",
    "limit_train_batches": "set data.subset to train on fewer images, or iterations to train for less",
    "max_epochs": "set iterations",
    "max_steps": "set iterations",
}
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", "bf16", "16", "32", "64")
# Those that shard a net keep no checkpoint that a run can resume from.
STRATEGIES = (
    "auto",
    "single_device",
    "ddp",
    "ddp_find_unused_parameters_false",
    "ddp_find_unused_parameters_true",
)
INTERVALS = ("check_val_every_n_epoch", "val_check_interval")  # which say together when to evaluate


def is_devices(value: object) -> bool:
    gpus = isinstance(value, list) and bool(value) and all(is_integer(gpu, 0) for gpu in value)
    return value in (None, "auto", -1) or gpus or is_integer(value, 1)


RULES = {
    "trainer.profiler": Rule(
        lambda value: value in (None, "simple", "advanced"),
        "null, simple or advanced, whose reports go beside the record",
    ),
    "trainer._target_": TARGET,
    "trainer.devices": Rule(is_devices, "a number, a list of GPUs or auto"),
    "trainer.num_nodes": COUNT_OR_NULL,
    "trainer.accelerator": or_null(one_of("auto", "cpu", "gpu", "cuda")),
    "trainer.precision": Rule(
        lambda value: value is None or (not isinstance(value, bool) and str(value) in PRECISIONS),
        f"one of {', '.join(PRECISIONS)}",
        ";",
    ),
    "trainer.strategy": Rule(
        lambda value: value is None or isinstance(value, dict) or value in STRATEGIES,
        f"a block with a _target_, or one of {', '.join(STRATEGIES)}",
        ";",
    ),
    "trainer.sync_batchnorm": SWITCH_OR_NULL,
    "trainer.gradient_clip_val": or_null(NOT_NEGATIVE),
    "trainer.gradient_clip_algorithm": or_null(one_of("norm", "value")),
    "trainer.deterministic": Rule(
        lambda value: value is None or isinstance(value, bool) or value == "warn", "true, false or warn"
    ),
    "trainer.benchmark": SWITCH_OR_NULL,
    "trainer.detect_anomaly": SWITCH_OR_NULL,
}


def check_trainer(trainer: dict[str, Any]) -> None:
    """Refuse settings by which a run would not be trained or evaluated as it says.

    Raises:
        UserError: there is one.
    """
    for name in trainer:
        if remedy := INSTEAD.get(name):
            raise UserError(f"trainer.{name} is not a setting here; {remedy}")
    check_known("trainer", trainer, {*(key.removeprefix("trainer.") for key in RULES), *INTERVALS})
    if trainer.get("accelerator") == "cpu" and str(trainer.get("precision")) in ("16-mixed", "16"):
        raise UserError(  # Lightning would take bf16-mixed in its place
            f"trainer.precision={trainer['precision']} is for GPUs; on a CPU set trainer.precision=bf16-mixed"
        )
    strategy = trainer.get("strategy")
    if isinstance(strategy, dict) and strategy.get("broadcast_buffers"):
        raise UserError(
            "trainer.strategy.broadcast_buffers must be false, as each process counts the errors of its own "
            f"images; got {strategy['broadcast_buffers']!r}"
        )
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
