"""The job `loading`: the speed at which a core decodes and augments photographs, ours beside torchvision's."""

import itertools
import tempfile
import time
from abc import abstractmethod
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

from resnet_lab.benchmarks.rounds import Contender, markdown_table, measure, ratios, rounds_csv
from resnet_lab.checks import UserError
from resnet_lab.config.build import build
from resnet_lab.data import ImageNet
from resnet_lab.data.batches import Request
from resnet_lab.files import write_atomically
from resnet_lab.runs.directory import Run

PHOTOS = 64
WIDTH, HEIGHT = 500, 375  # of most of ImageNet's photographs
BATCH = 32  # images


def perform(run: Run, config: dict[str, Any]) -> dict[str, Any]:
    """Measure each contender in every round on one thread; return images per second and ratios for the record."""
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
                "ours": Ours(data, count),
                "torchvision, the same augmentation": Usual(data, same_augmentation(data), count),
                "torchvision, RandomResizedCrop": Usual(data, random_resized_crop(data), count),
            }
        )
    text = markdown_table(speeds)
    write_atomically(run.directory / "loading.md", text)
    write_atomically(run.directory / "rounds.csv", rounds_csv(speeds))
    print(text)
    return {"images_per_second": speeds, "ratios": ratios(speeds)}


def write_photos(root: Path) -> None:
    """Write many cuts of scikit-learn's two photographs, as JPEGs of the usual size on ImageNet."""
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


class Loading(Contender):
    """Photographs loaded in batches, `images` of them in a turn."""

    def __init__(self, images: int) -> None:
        self.images = images

    def turn(self) -> float:
        started = time.perf_counter()
        for number, start in enumerate(range(0, self.images, BATCH)):
            self.load(number, torch.arange(start, min(start + BATCH, self.images)) % PHOTOS)
        return self.images / (time.perf_counter() - started)

    @abstractmethod
    def load(self, number: int, indices: torch.Tensor) -> None:
        """Load the images of a batch, the `number`th of the turn."""


class Ours(Loading):
    """`data=imagenet`: the loader's part in a worker, the device's part on a batch."""

    def __init__(self, data: ImageNet, images: int) -> None:
        super().__init__(images)
        self.data = data
        self.files = data.dataset(data.train_images(), training=True)
        data.train_dataloader()  # computes the statistics of the colours

    def load(self, number: int, indices: torch.Tensor) -> None:
        self.data.ready(self.files[Request(indices, number, 1.0)], training=True)


class Usual(Loading):
    """The tutorials' way: an ImageFolder whose images go through PIL one by one and are then stacked."""

    def __init__(self, data: ImageNet, transform: Callable[[Any], torch.Tensor], images: int) -> None:
        super().__init__(images)
        self.folder = ImageFolder(str(data.root / "train"), transform)

    def load(self, number: int, indices: torch.Tensor) -> None:
        torch.stack([self.folder[index][0] for index in indices.tolist()])


def same_augmentation(data: ImageNet) -> Any:
    """The paper's augmentation, except for the colours, which torchvision does not augment so."""
    shortest, longest = data.shorter_side

    def resize(image: Any) -> Any:
        return functional.resize(image, int(torch.randint(shortest, longest + 1, ())))

    return transforms.Compose([resize, transforms.RandomCrop(data.image_size), *to_normalized_tensor()])


def random_resized_crop(data: ImageNet) -> Any:
    return transforms.Compose([transforms.RandomResizedCrop(data.image_size), *to_normalized_tensor()])


def to_normalized_tensor() -> list[Any]:
    normalize = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return [transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalize]
