"""The job `throughput`: the speed of our fit beside other loops, beside the net's convolutions alone and beside
itself in bfloat16, as ratios."""

import logging
import tempfile
import time
from abc import abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from itertools import islice, repeat
from typing import Any

import torch
from lightning_fabric import Fabric
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from resnet_lab.benchmarks.convolutions import convolutions_of, pass_through
from resnet_lab.benchmarks.rounds import Contender, markdown_table, measure, ratios, rounds_csv
from resnet_lab.checks import UserError
from resnet_lab.config.build import build
from resnet_lab.data import ImageData, ImagesInMemory
from resnet_lab.data.batches import Images
from resnet_lab.files import write_atomically
from resnet_lab.runs.directory import Run
from resnet_lab.runs.processes import CORES, devices
from resnet_lab.training.acceleration import fused
from resnet_lab.training.job import build_all, build_trainer, set_threads
from resnet_lab.training.kernels import NO_BF16, has_bf16

log = logging.getLogger(__name__)

WARM_UP = 3  # iterations at the start of each turn that are not timed
FLOAT32, BF16 = ("32-true", "32"), ("bf16-mixed", "bf16")


def perform(run: Run, config: dict[str, Any]) -> dict[str, Any]:
    """Measure each contender in every round; return images per second and ratios for the record."""
    set_threads(config)
    check_precision(config["trainer"])
    check_one_device(config["trainer"])
    steps = config["iterations"] + WARM_UP
    data, _ = build_all(config)
    if not isinstance(data, ImagesInMemory):
        raise UserError(f"job=throughput needs images in memory, not data._target_={config['data']['_target_']}")
    data.prepare()
    check_size(data, config["iterations"])
    further, left_out = further_contenders(config, data, steps)
    contenders: dict[str, Contender] = {
        "fit": Fit(config, steps),
        "bare loop": BareLoop(config, data, steps),
        "usual loader": UsualLoader(config, data, steps),
        **further,
    }
    speeds = measure(contenders) | {name: [] for name in left_out}
    text = markdown_table(speeds)
    write_atomically(run.directory / "throughput.md", text)
    write_atomically(run.directory / "rounds.csv", rounds_csv(speeds))
    print(text)
    return {"images_per_second": speeds, "ratios": ratios(speeds), "left_out": left_out}


def further_contenders(
    config: dict[str, Any], data: ImageData, steps: int
) -> tuple[dict[str, Contender], dict[str, str]]:
    """Those that depend on net and device; and why others of them are left out."""
    floor = ConvolutionFloor(config, data, steps)
    no_floor = "" if floor.convolutions else "the net has no convolutions"
    no_bf16 = why_no_bf16(config["trainer"])
    reasons = {"convolution floor": no_floor, "fit in bf16": no_bf16}
    left_out = {name: reason for name, reason in reasons.items() if reason}
    for name, reason in left_out.items():
        log.warning("%s is left out: %s", name, reason)
    contenders: dict[str, Contender] = {} if no_floor else {"convolution floor": floor}
    in_bf16 = config | {"trainer": config["trainer"] | {"precision": "bf16-mixed"}}
    return contenders if no_bf16 else contenders | {"fit in bf16": Fit(in_bf16, steps)}, left_out


def why_no_bf16(trainer: dict[str, Any]) -> str:
    """Why a fit in bfloat16 would show nothing; empty if it would."""
    if str(trainer.get("precision")) in BF16:
        return f"trainer.precision={trainer['precision']} has all of them in it"
    return "" if has_bf16(device_of(trainer)) else NO_BF16


def check_size(data: ImageData, iterations: int) -> None:
    """Refuse more iterations than an epoch has, of which a turn is a part."""
    most = data.iterations_per_epoch - WARM_UP
    if iterations > most:
        smaller = f"set iterations={most} or less" if most > 0 else "set a smaller data.batch_size"
        needed = (iterations + WARM_UP) * data.batch_size
        raise UserError(
            f"job=throughput times iterations={iterations} of one epoch after {WARM_UP} to warm up, and an epoch "
            f"of {len(data.train_images().labels)} images in batches of {data.batch_size} has "
            f"{data.iterations_per_epoch}; {smaller}, or use data=synthetic data.train_images={needed}"
        )


class Stopwatch(Callback):
    """Note the time when the device has done the warm-up, and when it has done all `steps` iterations."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self.device, self.steps = device, steps
        self.done = 0
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.done += 1
        if self.done in (WARM_UP, self.steps):
            wait_for(self.device)
            self.times.append(time.perf_counter())

    def speed(self, batch_size: int) -> float:
        """Images per second between the two."""
        began, ended = self.times
        return batch_size * (self.steps - WARM_UP) / (ended - began)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what it was given; a CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_of(trainer: dict[str, Any]) -> torch.device:
    """The first device of a Trainer with these settings."""
    asked = trainer.get("devices")
    named = asked if isinstance(asked, list) else 1
    return Fabric(accelerator=trainer.get("accelerator") or "auto", devices=named).device


def precision_of(trainer: dict[str, Any], device: torch.device) -> AbstractContextManager[Any]:
    """The context in which a loop's forward pass has the precision of the Trainer's."""
    return torch.autocast(device.type, torch.bfloat16, enabled=str(trainer.get("precision")) in BF16)


def check_precision(trainer: dict[str, Any]) -> None:
    """Refuse a precision that the loops do not have."""
    precision = trainer.get("precision")
    if precision is not None and str(precision) not in (*FLOAT32, *BF16):
        raise UserError(
            f"job=throughput compares loops in trainer.precision=32-true or bf16-mixed, got {precision!r}"
        )


def check_one_device(trainer: dict[str, Any]) -> None:
    """Refuse several devices: the loops beside the Trainer have one."""
    if (wanted := devices(trainer) * int(trainer.get("num_nodes", 1))) > 1:
        raise UserError(f"job=throughput compares loops on one device, got {wanted}; set trainer.devices=1")


class Fit(Contender):
    """`resnet-lab`: the Trainer with all our callbacks, our data, our LightningModule."""

    def __init__(self, config: dict[str, Any], steps: int) -> None:
        self.config = config | {"iterations": steps}
        self.data, self.classifier = build_all(config)
        self.data.prepare()

    def turn(self) -> float:
        with tempfile.TemporaryDirectory() as folder:
            trainer = build_trainer(Run(folder), self.config, self.data, 0)
            stopwatch = Stopwatch(trainer.strategy.root_device, self.config["iterations"])
            trainer.callbacks.append(stopwatch)  # type: ignore[attr-defined]
            trainer.fit(self.classifier, self.data)
        return stopwatch.speed(self.data.batch_size)


class Loop(Contender):
    """A training loop written by hand, of `steps` iterations in a turn."""

    def __init__(self, config: dict[str, Any], net: nn.Module, batch_size: int, steps: int) -> None:
        self.device = device_of(config["trainer"])
        self.net, self.batch_size, self.steps = net.to(self.device), batch_size, steps
        self.precision = precision_of(config["trainer"], self.device)
        self.optimizer: Optimizer = build("optimizer", config["optimizer"], **fused(config))(net.parameters())

    def turn(self) -> float:
        stopwatch = Stopwatch(self.device, self.steps)
        for images, labels in islice(self.batches(), self.steps):
            self.step(images.to(self.device), labels.to(self.device))
            stopwatch.on_train_batch_end()
        return stopwatch.speed(self.batch_size)

    def step(self, images: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad()
        with self.precision:
            loss = F.cross_entropy(self.net(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    @abstractmethod
    def batches(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Images (N, C, H, W) and labels (N,), batch by batch."""


class BareLoop(Loop):
    """The same network and settings on one batch again and again: no data, no metrics, no Trainer."""

    def __init__(self, config: dict[str, Any], data: ImageData, steps: int) -> None:
        super().__init__(config, build_all(config)[1].net, data.batch_size, steps)
        images, labels = next(data.batches("train", data.batch_size))
        self.batch = images.to(self.device), labels.to(self.device)

    def batches(self) -> Iterable[tuple[Tensor, Tensor]]:
        return repeat(self.batch)


class ConvolutionFloor(Contender):
    """The convolutions of the net alone, forward and both backward passes: none of the loops can be faster."""

    def __init__(self, config: dict[str, Any], data: ImageData, steps: int) -> None:
        self.device = device_of(config["trainer"])
        self.batch_size, self.steps = data.batch_size, steps
        alone = config["runtime"] | {"compile": False, "activation_checkpointing": False}
        net = build_all(config | {"runtime": alone})[1].net.to(self.device)
        images, _ = next(data.batches("train", data.batch_size))
        with precision_of(config["trainer"], self.device):
            self.convolutions = convolutions_of(net, images.to(self.device))

    def turn(self) -> float:
        stopwatch = Stopwatch(self.device, self.steps)
        for _ in range(self.steps):
            pass_through(self.convolutions)
            stopwatch.on_train_batch_end()
        return stopwatch.speed(self.batch_size)


class UsualLoader(Loop):
    """The tutorials' way: images transformed one by one through PIL in one worker per core, NCHW in memory."""

    def __init__(self, config: dict[str, Any], data: ImagesInMemory, steps: int) -> None:
        net = build("model", config["model"], in_channels=data.in_channels, num_classes=data.num_classes)
        super().__init__(config, net, data.batch_size, steps)
        self.loader = DataLoader(
            UsualImages(data.train_images(), data.crop_padding, data.flip),
            data.batch_size,
            shuffle=True,
            num_workers=CORES,
        )

    def batches(self) -> Iterable[tuple[Tensor, Tensor]]:
        return self.loader


class UsualImages(Dataset[tuple[Tensor, int]]):
    """One image at a time, through PIL."""

    def __init__(self, images: Images, padding: int, flip: bool) -> None:
        self.images = images
        channels = images.pixels.shape[1]
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(images.pixels.shape[-1], padding=padding),
                transforms.RandomHorizontalFlip(0.5 if flip else 0.0),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * channels, [0.25] * channels),
            ]
        )

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images.pixels[index]), int(self.images.labels[index])
