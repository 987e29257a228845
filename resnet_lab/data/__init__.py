"""The datasets, as LightningDataModules that hold their images in memory."""

from resnet_lab.data.datasets import CIFAR10, CIFAR100, MNIST, Digits, FashionMNIST, Synthetic
from resnet_lab.data.module import ImageData

__all__ = ["CIFAR10", "CIFAR100", "MNIST", "Digits", "FashionMNIST", "ImageData", "Synthetic"]
