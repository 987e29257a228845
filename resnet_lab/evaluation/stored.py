"""Stored nets with their data: those of a run, at its end or its beginning, or of a file of weights."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning import seed_everything
from pytorch_lightning.utilities.seed import isolate_rng
from torch import nn

from resnet_lab.checks import UserError, check_choice
from resnet_lab.config.build import build
from resnet_lab.data import ImageData
from resnet_lab.models.backbone import backbone_of
from resnet_lab.models.count import check_takes_images
from resnet_lab.runs.directory import Run
from resnet_lab.runs.find import run_at
from resnet_lab.runs.sealed import digest_of
from resnet_lab.training.checkpoint import is_of, newest_whole, read_checkpoint
from resnet_lab.training.job import build_net
from resnet_lab.weights.files import load_weights
from resnet_lab.weights.start import freeze, start_from

AT = ("last", "initialization")


class Subject(NamedTuple):
    """A net with its weights, and its data, not yet read.

    `config` is the run's frozen one, or the blocks model and data of a file of weights. `iteration` is None if the
    file does not tell. `digest` is a sha256 of the weights' file, empty at initialization. `note` says where the
    weights come from.
    """

    name: str
    net: nn.Module
    data: ImageData
    config: dict[str, Any]
    iteration: int | None
    digest: str
    note: str


def open_run(path: Path, at: str = "last") -> Subject:
    """Open the net of a run directory with its newest whole weights, or that of one of its checkpoints.

    With `at="initialization"` the weights are those that training began with. The random state is left alone,
    nothing is downloaded, and images other than the run's are refused when they are read.

    Raises:
        UserError: there is no run, its record or its weights are damaged, or the weights are another run's.
        ValueError: `at` is unknown.
    """
    check_choice("at", at, AT)
    run = run_at(path)
    record = run.record()
    if at == "initialization":
        subject = at_initialization(run, record)
        start_from(subject.net, subject.config)
        subject.data.expected_checksum = checksum_in(run, record)
        return subject
    weights, checkpoint = whole_checkpoint(run, path)
    if not is_of(config_in(run, record), checkpoint):
        raise UserError(f"{weights} does not belong to the config in {run.record_path}")
    subject = at_initialization(run, record)
    subject.data.expected_checksum = checksum_in(run, record)
    load_state(subject.net, weights, checkpoint)
    step = int(checkpoint["global_step"])
    note = f"weights of iteration {step} of {subject.config['iterations']} in {weights}"
    return subject._replace(iteration=step, digest=digest_of(weights), note=note)


def open_fresh(model: dict[str, Any], data: dict[str, Any], seed: int) -> Subject:
    """The net of a block `model` of a config, for the images of a block `data`, with its first weights.

    They are the ones that a run with these blocks and this seed begins with. The random state is left alone.

    Raises:
        UserError: a block is wrong, or the net does not take such images.
    """
    config = {"model": model, "data": data, "seed": seed}
    with isolate_rng():
        seed_everything(seed, verbose=False)
        images, net = build_net(config | {"runtime": {"channels_last": False}})
    check_takes_images(net, images.shape)
    return Subject(f"seed {seed}", net, images, config, 0, "", "weights of iteration 0")


def open_weights(path: Path, model: dict[str, Any], data: dict[str, Any], padding: str = "both") -> Subject:
    """Open a file of weights for the net and the images of a config's blocks `model` and `data`.

    Raises:
        UserError, ValueError: as `load_weights`, which explains `padding`; or a block is wrong, or the net does
            not take such images.
    """
    images: ImageData = build("data", data)
    net = build("model", model, in_channels=images.in_channels, num_classes=images.num_classes)
    check_takes_images(net, images.shape)
    note = load_weights(net, path, padding)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Subject(str(path), net, images, {"model": model, "data": data}, None, digest, note)


def at_initialization(run: Run, record: dict[str, Any]) -> Subject:
    config = config_in(run, record)
    try:
        with isolate_rng():
            seed_everything(config["seed"], verbose=False)
            data, net = build_net(config)
        freeze(backbone_of(net), config.get("freeze", ()))
    except (LookupError, TypeError, AttributeError) as error:
        raise damaged(run, f"its config builds no net ({type(error).__name__}: {error})") from error
    data.may_download = False  # a record may come from anyone
    return Subject(str(run.directory), net, data, config, 0, "", "weights of iteration 0")


def whole_checkpoint(run: Run, path: Path) -> tuple[Path, dict[str, Any]]:
    if path.is_dir():
        found = newest_whole(run.checkpoint_path)
        if found is None:
            raise UserError(f"{run.checkpoint_path} is missing or damaged, and so is the one before it")
        return found
    checkpoint = read_checkpoint(path) if path.is_file() else None
    if checkpoint is None:
        raise UserError(f"{path} is missing or damaged")
    return path, checkpoint


def load_state(net: nn.Module, path: Path, checkpoint: dict[str, Any]) -> None:
    try:
        of_module = checkpoint["state_dict"].items()
        net.load_state_dict({name[4:]: tensor for name, tensor in of_module if name.startswith("net.")})
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} has a checksum that holds, but no weights of this net ({cause})") from error


def config_in(run: Run, record: dict[str, Any]) -> dict[str, Any]:
    config = record.get("config")
    if not isinstance(config, dict):
        raise damaged(run, "it has no config")
    return config


def checksum_in(run: Run, record: dict[str, Any]) -> str:
    try:
        return str(record["data"]["sha256"])
    except (LookupError, TypeError) as error:
        raise damaged(run, "it does not say which images the run had") from error


def damaged(run: Run, reason: str) -> UserError:
    return UserError(f"{run.record_path} is damaged: {reason}; run it again with force=true")
