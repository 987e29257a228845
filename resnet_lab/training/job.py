"""The job `train`: train and test one network according to its frozen config."""

import copy
import logging
import os
import statistics
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins import DoublePrecision
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, SimpleProfiler
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from resnet_lab.checks import UserError
from resnet_lab.config.build import build
from resnet_lab.config.tasks import CLASSIFICATION, name_of
from resnet_lab.data import ImageData
from resnet_lab.models.activation_checkpointing import checkpoint_blocks
from resnet_lab.models.backbone import backbone_of, counted_of
from resnet_lab.models.count import count_multiply_adds, count_parameters
from resnet_lab.runs.changes import history
from resnet_lab.runs.directory import Run, previous
from resnet_lab.runs.processes import CORES, devices, rank, started_outside
from resnet_lab.runs.provenance import provenance
from resnet_lab.runs.swept import title
from resnet_lab.tasks.module import TaskModule
from resnet_lab.tasks.task import Task
from resnet_lab.training.acceleration import compile_net, fused
from resnet_lab.training.callbacks import Curves, OneRun, Reseed, SaveLast, Stop, StopAtIteration
from resnet_lab.training.checkpoint import VerifiedCheckpointIO, is_of, newest_whole
from resnet_lab.training.header import header
from resnet_lab.training.hyperparameters import hyperparameters
from resnet_lab.training.kept import KeepWeights
from resnet_lab.training.kernels import NO_BF16, has_bf16, kernels
from resnet_lab.training.pictures import Found
from resnet_lab.training.watching import Watch
from resnet_lab.weights.start import freeze, start_from

log = logging.getLogger(__name__)

# the keys that a checkpoint must have for a run to resume from it
RESUMED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step")

TESTED = ("test_error", "test_loss")  # the first stands for itself in a record, the second in none

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler}
PROFILE = "profile"  # in the names of their files
SMALL = 64  # pixels; an ImageNet stem leaves 16 of these, and the stages an eighth of that


def perform(run: Run, config: dict[str, Any]) -> dict[str, Any]:
    """Seed, build, fit and test; return the facts for the record."""
    checkpoint, step, evaluated = find_checkpoint(run, config)
    began = run.record() if step else {}
    set_threads(config, began.get("threads"))
    seed_everything(config["seed"], verbose=False)
    data, module = build_all(config)
    facts: dict[str, Any] = net_facts(module.net, data)
    facts |= {} if checkpoint else start_from(module.net, config)
    log.info("reading the images of %s", type(data).__name__)
    data.prepare()
    trainer = build_trainer(run, config, data, logged_until(run, step, evaluated))
    check_smallest_part(module.net, data, trainer.world_size)
    if trainer.is_global_zero:
        facts |= provenance() | conditions(config, trainer) | {"data": data_facts(data)}
        accept = config["runtime"].get("accept_changes", False)
        facts |= history(run, began, facts, step, accept) if began else {"earlier": [], "accepted_changes": []}
        run.keep_metrics_until(evaluated)
        run.update(**facts)
        say(header(run, config, facts, data.iterations_per_epoch, checkpoint, step))
        warn_of_emulation(config["trainer"], trainer.strategy.root_device)
    if not config["iterations"]:
        return {"iterations": 0}
    fit(trainer, module, data, checkpoint)
    trainer.test(module, data, verbose=False)
    say([f"profile: {path}" for path in sorted(run.directory.glob(f"*-{PROFILE}*.txt"))])
    for logger in trainer.loggers:
        getattr(logger, "finish", lambda: None)()  # such as have a service to wait for
    unreadable = data.unreadable_everywhere()
    if not trainer.is_global_zero:
        return {}
    return final_facts(run, config, trainer) | ({"unreadable": unreadable} if unreadable else {})


def fit(trainer: Trainer, module: TaskModule, data: ImageData, checkpoint: Path | None) -> None:
    """Train, from the checkpoint if there is one.

    Raises:
        UserError: the Trainer does not take its settings, or the checkpoint has no state of this run.
    """
    if isinstance(trainer.precision_plugin, DoublePrecision):
        # Lightning converts after it has restored the weights, which float32 would have rounded
        trainer.precision_plugin.convert_module(module)
    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        of_processes = isinstance(error, RuntimeError) and "state_dict" not in str(error)
        if checkpoint is None or of_processes or has_begun(trainer):
            raise
        raise UserError(
            f"{checkpoint} has a checksum that holds, but no state of this run ({type(error).__name__}: {error}); "
            "remove it to resume from the one before it, or start anew with force=true"
        ) from error


def warn_of_emulation(trainer: dict[str, Any], device: torch.device) -> None:
    precision = str(trainer.get("precision"))
    if precision.startswith("bf16") and not has_bf16(device):
        log.warning("trainer.precision=%s is slower here than 32-true: %s", precision, NO_BF16)


def say(lines: list[str]) -> None:
    for line in lines:
        log.info("%s", line)


def has_begun(trainer: Trainer) -> bool:
    """Whether the training has begun, which comes after the checkpoint is restored."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return any(callback.begun for callback in callbacks if isinstance(callback, StopAtIteration))


def check_smallest_part(net: nn.Module, data: ImageData, processes: int) -> None:
    """Refuse a last batch of an epoch that leaves a process one image, if the net cannot be trained on one."""
    size, net = len(data.train_images().labels), counted_of(net)
    if data.batch_size > size:
        log.warning("data.batch_size=%d is more than the %d training images", data.batch_size, size)
    last = size % data.batch_size or data.batch_size
    if min(last, data.batch_size) // processes != 1:
        return
    try:
        with torch.no_grad():
            copy.deepcopy(net)(torch.zeros(1, *data.shape))
    except ValueError as error:
        raise UserError(
            f"data.batch_size={data.batch_size} leaves a last batch of {last} of the {size} training images, one "
            f"per process, on which this net cannot be trained ({error}); choose another data.batch_size"
        ) from error


def conditions(config: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
    """Settings outside the run's identity, most of which still change its floating-point results."""
    return {
        "processes": trainer.world_size,
        "threads": torch.get_num_threads(),
        "interop_threads": torch.get_num_interop_threads(),
        "device": trainer.strategy.root_device.type,
        "channels_last": config["runtime"]["channels_last"],
        "compile": config["runtime"]["compile"],
        "strategy": config["trainer"].get("strategy"),
        "kernels": kernels(trainer.strategy.root_device),
    }


def set_threads(config: dict[str, Any], before: int | None = None) -> None:
    """Set the number asked for, else `before`, else this process's share; another number changes the last
    digits."""
    if config["trainer"].get("accelerator") == "cpu" and devices(config["trainer"]) > CORES:
        log.warning("%d processes share %d cores; trainer.devices=1 is faster", devices(config["trainer"]), CORES)
    share = max(1, torch.get_num_threads() // devices(config["trainer"]))
    given = os.environ.get("OMP_NUM_THREADS", str(share)).split(",")  # it may be a list, one number per nesting
    threads = config["runtime"]["threads"] or before or int(given[0])
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # or Lightning would choose another number


def build_all(config: dict[str, Any]) -> tuple[ImageData, TaskModule]:
    """Build the data, not yet read, and the network in its LightningModule."""
    data, net = build_net(config)
    return data, build_module(config, data, net)


def build_net(config: dict[str, Any]) -> tuple[ImageData, nn.Module]:
    """Build the data, not yet read, and the network, with the run's first weights if `seed_everything` was called
    with its seed."""
    data: ImageData = build("data", config["data"], seed=config["seed"])
    data.final_train_images = config["runtime"].get("final_train_images")
    net: nn.Module = build("model", config["model"], in_channels=data.in_channels, num_classes=data.num_classes)
    if config["runtime"].get("activation_checkpointing"):
        checkpoint_blocks(net)
    if config["runtime"]["channels_last"]:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = task_of(config)
    if task.name not in data.tasks:
        raise UserError(
            f"task={task.name} does not go with {type(data).__name__}, which has the annotations for "
            f"{' and '.join(data.tasks)}"
        )
    return data, task.network(net, data)


def task_of(config: dict[str, Any]) -> Task:
    """The task of a config, classification where it names none.

    Raises:
        UserError: there is no such task, or it does not accept its settings.
    """
    task: Task = build("task", config.get("task") or {"_target_": "resnet_lab.tasks.Classification"})
    return task


def build_module(config: dict[str, Any], data: ImageData, net: nn.Module) -> TaskModule:
    """Build the LightningModule of a network, with optimizer and schedule, compiled if the config says so."""
    freeze(backbone_of(net), config.get("freeze", ()))
    optimizer = build("optimizer", config["optimizer"], **fused(config))
    schedule = build("schedule", config["schedule"])
    recipe = {key: config[key] for key in ("label_smoothing", "mixup", "seed") if key in config}
    module = task_of(config).module(net, optimizer, schedule, data, **recipe)
    module.configure_optimizers()  # once here, so that wrong settings fail before the images are read
    if config["model"].get("stem") == "imagenet" and data.image_size <= SMALL:
        log.warning(
            "model.stem=imagenet leaves almost nothing of images of %d pixels; model.stem=cifar is for these",
            data.image_size,
        )
    compile_net(net, config["runtime"]["compile"])
    return module


def net_facts(net: nn.Module, data: ImageData) -> dict[str, Any]:
    multiply_adds = count_multiply_adds(counted_of(net), data.shape)
    return {"parameters": count_parameters(net), "multiply_adds": multiply_adds}


def data_facts(data: ImageData) -> dict[str, Any]:
    return {
        "name": type(data).__name__,
        "classes": data.num_classes,
        "official": data.official,
        "train_images": len(data.train_images().labels),
        "val_images": len(data.val.labels),
        "test_images": len(data.test.labels),
        "validates_on": f"{data.holdout} held-out training images" if data.holdout else "the test images",
        "sha256": data.checksum,
    }


def find_checkpoint(run: Run, config: dict[str, Any]) -> tuple[Path | None, int, int]:
    """Find the checkpoint to resume from, its iteration, and the last one whose evaluation it may know of.

    None, 0 and 0 to start anew.

    Raises:
        UserError: the checkpoint is another run's.
    """
    found = newest_whole(run.checkpoint_path, RESUMED)
    for path in (run.checkpoint_path, previous(run.checkpoint_path)):
        if found and path == found[0]:
            break
        if path.exists():
            log.warning("%s is damaged; %s", path, f"resuming from {found[0]}" if found else "starting anew")
    if found is None:
        return None, 0, 0
    if not is_of(config, found[1]):
        raise UserError(f"{found[0]} is of another run; choose another run_name, or force=true to start anew")
    step = int(found[1]["global_step"])
    evaluation_due = found[1]["callbacks"].get(Stop.__qualname__, {}).get("evaluation_due", False)
    return found[0], step, step - evaluation_due


def logged_until(run: Run, step: int, evaluated: int) -> int:
    """The iteration up to which logged values stay: an evaluation that is going to be repeated is logged again."""
    return step if all(int(row["step"]) <= evaluated for row in run.metrics()) else evaluated


def build_trainer(run: Run, config: dict[str, Any], data: ImageData, step: int) -> Trainer:
    """Build the Trainer of the config, with the callbacks and plugins of a run."""
    iterations = config["iterations"]
    checkpoints = SaveLast(run, config)
    images = len(data.train_images().labels) / data.iterations_per_epoch
    callbacks = [
        StopAtIteration(iterations),
        OneRun(run),
        Reseed(config["seed"]),
        *build_callbacks(config),
        Curves(run, config, hyperparameters(config)),
        *([Found(run)] if name_of(config) != CLASSIFICATION else []),
        *([] if rank() else [Watch(run, config, images)]),
        KeepWeights(run, config),  # before a checkpoint or a stop, so that none is missed
        Stop(checkpoints),
        checkpoints,
    ]
    settings = {key: value for key, value in config["trainer"].items() if key != "profiler"}
    trainer: Trainer = build(
        "trainer",
        settings,
        profiler=profiler_of(run, config),
        max_epochs=-(-iterations // data.iterations_per_epoch),
        callbacks=callbacks,
        logger=build_loggers(run, config, step) or False,
        plugins=[VerifiedCheckpointIO(), *cluster()],
        default_root_dir=str(run.directory),
        enable_progress_bar=False,
        enable_checkpointing=True,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    # Lightning's handlers would end a run as if it were complete
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    # to share a SIGTERM that it never sees here, Lightning would have every iteration wait for the GPU
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    if isinstance(trainer.strategy, DDPStrategy):
        # the counts and batch statistics are each process's own
        trainer.strategy._ddp_kwargs.setdefault("broadcast_buffers", False)
        # after this, processes give up waiting for one that hangs; a YAML file cannot hold a timedelta
        trainer.strategy._timeout = timedelta(seconds=config["runtime"]["timeout"])
    return trainer


def profiler_of(run: Run, config: dict[str, Any]) -> Profiler | None:
    """Lightning's profiler of that name, whose reports go beside the record."""
    made = PROFILERS.get(config["trainer"].get("profiler"))
    return None if made is None else made(dirpath=run.directory, filename=PROFILE)


def build_callbacks(config: dict[str, Any]) -> list[Callback]:
    """Those that the config has beside the lab's own."""
    return [build(f"callbacks.{name}", block) for name, block in (config.get("callbacks") or {}).items()]


def build_loggers(run: Run, config: dict[str, Any], step: int) -> list[Logger]:
    """Those that the config has."""
    facts = {
        "directory": run.directory,
        "iteration": step,
        "experiment": config["experiment_name"],
        "title": f"{title(config)}, seed {config['seed']}",
    }
    return [build(f"logger.{name}", block, **facts) for name, block in (config.get("logger") or {}).items()]


def cluster() -> list[ClusterEnvironment]:
    """How the processes find each other; Lightning must not requeue a SLURM job, which its launcher does."""
    outside = started_outside()
    if outside is None:
        return [LightningEnvironment()] if "LOCAL_RANK" in os.environ else []
    return [SLURMEnvironment(auto_requeue=False) if outside.starter == "srun" else TorchElasticEnvironment()]


def final_facts(run: Run, config: dict[str, Any], trainer: Trainer) -> dict[str, Any]:
    """Errors in percent and loss at the last iteration, and the median speed."""
    rows = run.metrics()
    planned: int = config["iterations"]
    iterations = trainer.global_step if config.get("callbacks") else planned  # which may stop a training early
    if not rows or int(rows[-1]["step"]) != iterations:
        raise UserError(f"{run.metrics_path} does not end at iteration {iterations}; force=true starts anew")
    last = {name: float(value) for name, value in rows[-1].items()}
    tested = {tag.replace("/", "_"): float(value) for tag, value in trainer.callback_metrics.items()}
    log.info(
        "complete: train error %.2f %%, test error %.2f %%; %s",
        last["train_error"],
        tested["test_error"],
        run.record_path,
    )
    return {
        "iterations": iterations,
        **({"stopped_early": iterations} if iterations < planned else {}),
        "train_error": last["train_error"],
        **({"train_error_clean": tested["train_clean_error"]} if "train_clean_error" in tested else {}),
        "val_error": last["val_error"],
        "test_error": tested["test_error"],
        **{name: value for name, value in tested.items() if name.startswith("test_") and name not in TESTED},
        "train_loss": last["train_loss"],
        "images_per_second": statistics.median(float(row["images_per_second"]) for row in rows),
    }
