"""The job `loading`: how fast a core decodes and augments photographs, ours beside torchvision's, in turn."""

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torchvision import transforms
from torchvision.datasets import ImageFolder
from torchvision.transforms import functional

from resnet_lab.benchmarks.rounds import measure, ratios, rounds, table
from resnet_lab.checks import UserError
from resnet_lab.config.build import build
from resnet_lab.data import ImageNet
from resnet_lab.data.batches import Request
from resnet_lab.files import write_atomically
from resnet_lab.runs.directory import Run

PHOTOS = 64
WIDTH, HEIGHT = 500, 375  # what most of ImageNet's photographs have


def perform(run: Run, config: dict[str, Any]) -> dict[str, Any]:
    """Measure each contender in every round on one thread; images per second and ratios for the record."""
    if config["data"]["_target_"] != "resnet_lab.data.ImageNet":
        raise UserError(f"job=loading measures data=imagenet, not data._target_={config['data']['_target_']}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder))
        here = {"root": folder, "num_workers": 0, "num_classes": None, "holdout": 0, "subset": None}
        data: ImageNet = build("data", config["data"] | here)
        data.prepare()
        count = config["iterations"]
        speeds = measure(
            {
                "ours": timed(ours(data), count),
                "torchvision, the same augmentation": timed(usual(data, same_augmentation(data)), count),
                "torchvision, RandomResizedCrop": timed(usual(data, random_resized_crop(data)), count),
            }
        )
    text = table(speeds)
    write_atomically(run.directory / "loading.md", text)
    write_atomically(run.directory / "rounds.csv", rounds(speeds))
    print(text)
    return {"images_per_second": speeds, "ratios": ratios(speeds)}


def timed(turn: Callable[[int], None], images: int) -> Callable[[], float]:
    """The same as images per second."""

    def speed() -> float:
        started = time.perf_counter()
        turn(images)
        return images / (time.perf_counter() - started)

    return speed


def write_photos(root: Path) -> None:
    """scikit-learn's two photographs in many cuts, as JPEGs of the size that is usual on ImageNet."""
    random = np.random.default_rng(0)
    for number, photo in enumerate(itertools.islice(itertools.cycle(load_sample_images().images), PHOTOS)):
        height, width = photo.shape[:2]
        side = random.uniform(0.6, 1.0)
        w, h = int(width * side), int(width * side * HEIGHT / WIDTH)
        h = min(h, height)
        left, top = random.integers(width - w + 1), random.integers(height - h + 1)
        cut = Image.fromarray(photo[top : top + h, left : left + w]).resize((WIDTH, HEIGHT))
        for part in ("train", "val"):
            folder = root / part / f"photo{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            cut.save(folder / f"{number}.JPEG", quality=92)


def ours(data: ImageNet) -> Callable[[int], None]:
    """What `data=imagenet` does: the loader's part in a worker, the device's part on a batch."""
    files = data.dataset(data.train_images(), training=True)
    data.train_dataloader()  # takes the statistics of the colours

    def turn(images: int) -> None:
        for epoch, start in enumerate(range(0, images, 32)):
            indices = torch.arange(start, min(start + 32, images)) % PHOTOS
            data.ready(files[Request(indices, epoch, 1.0)], training=True)

    return turn


def usual(data: ImageNet, transform: Callable[[Any], torch.Tensor]) -> Callable[[int], None]:
    """The tutorials' way: an ImageFolder whose images go through PIL one by one, then stacked."""
    folder = ImageFolder(str(data.root / "train"), transform)

    def turn(images: int) -> None:
        for start in range(0, images, 32):
            torch.stack([folder[index % PHOTOS][0] for index in range(start, min(start + 32, images))])

    return turn


def same_augmentation(data: ImageNet) -> Any:
    """The paper's, but for the colours, which torchvision does not have."""
    shortest, longest = data.shorter_side

    def resize(image: Any) -> Any:
        return functional.resize(image, int(torch.randint(shortest, longest + 1, ())))

    return transforms.Compose([resize, transforms.RandomCrop(data.image_size), *to_normalized_tensor()])


def random_resized_crop(data: ImageNet) -> Any:
    return transforms.Compose([transforms.RandomResizedCrop(data.image_size), *to_normalized_tensor()])


def to_normalized_tensor() -> list[Any]:
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return [transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalize]
