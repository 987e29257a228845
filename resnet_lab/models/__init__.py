"""The networks of the paper, and those it is compared with."""

from resnet_lab.models.highway import highway
from resnet_lab.models.inception import inception
from resnet_lab.models.resnet_cifar import preact_resnet_cifar, resnet_cifar
from resnet_lab.models.resnet_imagenet import resnet_imagenet
from resnet_lab.models.stacked import stacked
from resnet_lab.models.timm_nets import inception_resnet_v2, inception_v4
from resnet_lab.models.torchvision_nets import alexnet, googlenet, vgg

__all__ = [
    "alexnet",
    "googlenet",
    "highway",
    "inception",
    "inception_resnet_v2",
    "inception_v4",
    "preact_resnet_cifar",
    "resnet_cifar",
    "resnet_imagenet",
    "stacked",
    "vgg",
]
