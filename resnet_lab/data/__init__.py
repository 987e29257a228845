"""The datasets, as LightningDataModules."""

from resnet_lab.data.datasets import CIFAR10, CIFAR100, MNIST, Digits, FashionMNIST, Synthetic
from resnet_lab.data.image_folder import ImageFolder
from resnet_lab.data.imagenet import ImageNet
from resnet_lab.data.module import ImageData, ImagesInMemory
from resnet_lab.data.scenes import Scenes

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "Digits",
    "FashionMNIST",
    "ImageData",
    "ImageFolder",
    "ImageNet",
    "ImagesInMemory",
    "Scenes",
    "Synthetic",
]
