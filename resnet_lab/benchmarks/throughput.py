"""The job `throughput`: our fit beside a bare loop and beside the usual loader, in turn, as ratios."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from resnet_lab.benchmarks.rounds import measure, ratios, rounds, table
from resnet_lab.checks import UserError
from resnet_lab.config.build import build
from resnet_lab.data import ImageData, ImagesInMemory
from resnet_lab.data.batches import Images
from resnet_lab.files import write_atomically
from resnet_lab.runs.directory import Run
from resnet_lab.training.job import build_all, build_trainer, set_threads

WARM_UP = 3  # iterations at the start of each turn that are not timed


def perform(run: Run, config: dict[str, Any]) -> dict[str, Any]:
    """Measure each contender in every round; images per second and ratios for the record."""
    set_threads(config)
    steps = config["iterations"] + WARM_UP
    data, _ = build_all(config)
    if not isinstance(data, ImagesInMemory):
        raise UserError(f"job=throughput needs images in memory, not data._target_={config['data']['_target_']}")
    data.prepare()
    check_size(data, config["iterations"])
    contenders: dict[str, Callable[[], float]] = {
        "fit": fit_turn(config | {"iterations": steps}),
        "bare loop": bare_turn(config, data, steps),
        "usual loader": usual_turn(config, data, steps),
    }
    speeds = measure(contenders)
    text = table(speeds)
    write_atomically(run.directory / "throughput.md", text)
    write_atomically(run.directory / "rounds.csv", rounds(speeds))
    print(text)
    return {
        "images_per_second": speeds,
        "ratios": ratios(speeds),
    }


def check_size(data: ImageData, iterations: int) -> None:
    """Refuse more iterations than an epoch has: a turn is a part of one."""
    most = data.iterations_per_epoch - WARM_UP
    if iterations > most:
        smaller = f"set iterations={most} or less" if most > 0 else "set a smaller data.batch_size"
        needed = (iterations + WARM_UP) * data.batch_size
        raise UserError(
            f"job=throughput times iterations={iterations} of one epoch after {WARM_UP} to warm up, and an epoch "
            f"of {len(data.train_images().labels)} images in batches of {data.batch_size} has "
            f"{data.iterations_per_epoch}; {smaller}, or take data=synthetic data.train_images={needed}"
        )


class Stopwatch(Callback):
    """The time at the end of each iteration."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.times.append(time.perf_counter())


def speed(times: list[float], batch_size: int) -> float:
    """Images per second after the warm-up."""
    return batch_size * (len(times) - WARM_UP) / (times[-1] - times[WARM_UP - 1])


def fit_turn(config: dict[str, Any]) -> Callable[[], float]:
    """What `resnet-lab` does: the Trainer with all our callbacks, our data, our LightningModule."""
    data, classifier = build_all(config)
    data.prepare()

    def turn() -> float:
        stopwatch = Stopwatch()
        with tempfile.TemporaryDirectory() as folder:
            trainer = build_trainer(Run(folder), config, data, 0)
            trainer.callbacks.append(stopwatch)  # type: ignore[attr-defined]
            trainer.fit(classifier, data)
        return speed(stopwatch.times, data.batch_size)

    return turn


def bare_turn(config: dict[str, Any], data: ImageData, steps: int) -> Callable[[], float]:
    """The same network and settings on one batch again and again: no data, no metrics, no Trainer."""
    net = build_all(config)[1].net
    images, labels = next(data.batches("train", data.batch_size))
    step = stepper(config, net)

    def turn() -> float:
        return speed(timed(step, ((images, labels) for _ in range(steps))), data.batch_size)

    return turn


def usual_turn(config: dict[str, Any], data: ImagesInMemory, steps: int) -> Callable[[], float]:
    """The tutorials' way: images transformed one by one through PIL in a worker a core, NCHW in memory."""
    net = build("model", config["model"], in_channels=data.in_channels, num_classes=data.num_classes)
    loader = DataLoader(
        UsualImages(data.train_images(), data.crop_padding, data.flip),
        data.batch_size,
        shuffle=True,
        num_workers=len(os.sched_getaffinity(0)),
    )
    step = stepper(config, net)

    def turn() -> float:
        return speed(timed(step, islice(loader, steps)), data.batch_size)

    return turn


def stepper(config: dict[str, Any], net: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """One optimizer step on a batch, as one would write it by hand."""
    optimizer = build("optimizer", config["optimizer"])(net.parameters())

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def timed(step: Callable[[Tensor, Tensor], None], batches: Iterator[tuple[Tensor, Tensor]]) -> list[float]:
    times = []
    for images, labels in batches:
        step(images, labels)
        times.append(time.perf_counter())
    return times


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
