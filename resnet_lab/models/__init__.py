"""The networks of the paper, in torch alone."""

from resnet_lab.models.resnet_cifar import resnet_cifar

__all__ = ["resnet_cifar"]
