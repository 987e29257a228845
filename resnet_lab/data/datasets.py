"""The datasets. A new one is a class with three attributes and a `load` method."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision import datasets as torchvision_datasets

from resnet_lab.checks import check_positive
from resnet_lab.data.batches import Images
from resnet_lab.data.files import check_md5, read_cifar_binary, read_idx_images
from resnet_lab.data.module import ImagesInMemory
from resnet_lab.data.streams import generator


class Digits(ImagesInMemory):
    """scikit-learn's handwritten digits, 8x8: 1,437 training and 360 test images; nothing to download."""

    in_channels, num_classes, image_size = 1, 10, 8

    def load(self) -> tuple[Images, Images]:
        digits = load_digits()
        # 17 grey levels, spread over the range of a byte
        pixels = torch.from_numpy(digits.images * (255 / 16)).round().to(torch.uint8)[:, None]
        labels = torch.from_numpy(digits.target).long()
        train, test = train_test_split(range(len(labels)), test_size=360, stratify=digits.target, random_state=0)
        return Images(pixels[train], labels[train]), Images(pixels[test], labels[test])


class MNIST(ImagesInMemory):
    """Handwritten digits, 28x28: 60,000 training and 10,000 test images.

    Reads the IDX files (plain or .gz) in `root/MNIST/raw`, torchvision's layout, else in root itself, the layout
    of distributions; downloads them otherwise. Fashion-MNIST's have the same names: root must have one set alone.

    Args:
        max_images: limit per file; a file whose header claims more is not unpacked.
        settings: those of `ImagesInMemory`.
    """

    in_channels, num_classes, image_size = 1, 10, 28
    source: ClassVar[type] = torchvision_datasets.MNIST

    def __init__(self, max_images: int = 60_000, **settings: Any) -> None:
        super().__init__(**settings)
        check_positive(max_images=max_images)
        self.max_images = max_images

    def load(self) -> tuple[Images, Images]:
        name = self.source.__name__
        folder = self.root / name / "raw"
        if not folder.parent.exists():
            if any(self.root.glob("train-images-idx3-ubyte*")):
                folder = self.root
            else:
                self.download(name, name, lambda root: self.source(root, download=True))
        size, classes, most = self.image_size, self.num_classes, self.max_images
        train, test = (read_idx_images(folder, part, size, classes, most) for part in ("train", "t10k"))
        return train, test


class FashionMNIST(MNIST):
    """Pictures of clothing, 28x28: 60,000 training and 10,000 test images; files as for MNIST."""

    source = torchvision_datasets.FashionMNIST


class CIFAR10(ImagesInMemory):
    """Photographs, 32x32: 50,000 training and 10,000 test images.

    Reads the binary version (`cifar-10-batches-bin` under root) as it is, or the Python version
    (`cifar-10-batches-py`) once its MD5 sums are verified; downloads the latter otherwise.
    """

    in_channels, num_classes, image_size = 3, 10, 32
    source: ClassVar[Any] = torchvision_datasets.CIFAR10
    binary_folder: ClassVar[str] = "cifar-10-batches-bin"
    binary_files: ClassVar[tuple[list[str], list[str]]] = (
        [f"data_batch_{part}.bin" for part in range(1, 6)],
        ["test_batch.bin"],
    )
    label_bytes: ClassVar[int] = 1

    def load(self) -> tuple[Images, Images]:
        folder = self.root / self.binary_folder
        if folder.exists():
            train, test = ([folder / name for name in names] for names in self.binary_files)
            return self._read(train), self._read(test)
        source = self.source
        folder = self.root / source.base_folder
        if not folder.exists():
            self.download(source.__name__, folder.name, lambda root: source(root, download=True))
        # the Python version is pickled: no file may be opened before its sum is verified
        about = [source.meta["filename"], source.meta["md5"]]
        check_md5(folder, [*source.train_list, *source.test_list, about])
        self.official = True
        parts = [source(self.root, train=train) for train in (True, False)]
        train_part, test_part = (
            Images(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
            for part in parts
        )
        return train_part, test_part

    def _read(self, paths: list[Path]) -> Images:
        return read_cifar_binary(paths, self.label_bytes, self.num_classes)


class CIFAR100(CIFAR10):
    """Photographs of 100 classes, 32x32: 50,000 training and 10,000 test images; folders as for CIFAR-10."""

    num_classes = 100
    source = torchvision_datasets.CIFAR100
    binary_folder = "cifar-100-binary"
    binary_files = (["train.bin"], ["test.bin"])
    label_bytes = 2


class Synthetic(ImagesInMemory):
    """Noisy copies of one random picture per class, for smoke tests: learnable, and made in memory."""

    def __init__(
        self,
        train_images: int = 512,
        test_images: int = 128,
        image_size: int = 32,
        in_channels: int = 3,
        num_classes: int = 10,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        check_positive(
            train_images=train_images,
            test_images=test_images,
            image_size=image_size,
            in_channels=in_channels,
            num_classes=num_classes,
        )
        self.sizes = (train_images, test_images)
        self.image_size, self.in_channels, self.num_classes = image_size, in_channels, num_classes

    def load(self) -> tuple[Images, Images]:
        random = generator("synthetic", 0)
        pictures = torch.randint(0, 256, (self.num_classes, *self.shape), generator=random)
        parts = []
        for size in self.sizes:
            labels = torch.randint(0, self.num_classes, (size,), generator=random)
            noise = torch.randint(-128, 128, (size, *self.shape), generator=random)
            parts.append(Images((pictures[labels] + noise).clamp(0, 255).to(torch.uint8), labels))
        return parts[0], parts[1]
