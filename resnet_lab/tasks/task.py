"""What a task is: the network that does it, made from a net that classifies, and the module that trains it."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from torch import nn

from resnet_lab.tasks.module import MakeOptimizer, MakeSchedule, TaskModule

if TYPE_CHECKING:
    from resnet_lab.data import ImageData


class Task(ABC):
    """Made from the settings of a config's block `task`; knows no architecture and no dataset."""

    name: str

    @abstractmethod
    def network(self, net: nn.Module, data: "ImageData") -> nn.Module:
        """The network of the task, with the layers of `net` as its backbone.

        Raises:
            UserError: the net cannot be a backbone.
        """

    @abstractmethod
    def module(
        self,
        network: nn.Module,
        optimizer: MakeOptimizer,
        schedule: MakeSchedule,
        data: "ImageData",
        **recipe: Any,
    ) -> TaskModule:
        """The LightningModule of such a network. `recipe` has label_smoothing, mixup and seed, where given."""
