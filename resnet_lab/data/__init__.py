"""The datasets, as LightningDataModules."""

from resnet_lab.data.coco import COCO
from resnet_lab.data.datasets import CIFAR10, CIFAR100, MNIST, Digits, FashionMNIST, Synthetic
from resnet_lab.data.image_folder import ImageFolder
from resnet_lab.data.imagenet import ImageNet
from resnet_lab.data.module import ImageData, ImagesInMemory
from resnet_lab.data.scenes import Scenes
from resnet_lab.data.voc import VOC

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "COCO",
    "MNIST",
    "VOC",
    "Digits",
    "FashionMNIST",
    "ImageData",
    "ImageFolder",
    "ImageNet",
    "ImagesInMemory",
    "Scenes",
    "Synthetic",
]
