"""Exponential moving average of the weights, by Lightning's own callback."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from resnet_lab.checks import UserError, check_positive

PREFIX = "module."  # of the names in an AveragedModel


class Average(AveragedModel):
    """An average that counts its updates on the host; torch's own waits for the device to know whether there are
    any."""

    def __init__(self, *settings: Any, **more: Any) -> None:
        super().__init__(*settings, **more)
        self.n_averaged = self.n_averaged.cpu()

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Update the weights and the running statistics."""
        count = int(self.n_averaged.numpy())
        for average, now in zip(numbers_of(self.module), numbers_of(model), strict=True):
            average.copy_(self.avg_fn(average, now, count) if count and self.avg_fn else now)
        self.n_averaged += 1


def numbers_of(net: nn.Module) -> Iterator[Tensor]:
    return chain(net.parameters(), net.buffers())


class EMA(EMAWeightAveraging):
    """Evaluate, test and store the moving average of the net's weights and running statistics.

    Training continues with the weights themselves, and so do the training errors in the curves. Lightning would
    average the counts of errors, too, which are buffers of the module; here it is given the net alone.

    Args:
        decay: factor of the average at each update.
        update_every_n_steps: iterations from one update to the next.

    Raises:
        ValueError: a number is out of its range.
        UserError: there are several processes, each with running statistics of its own; or the weights have 16
            bits.
    """

    def __init__(self, decay: float = 0.999, update_every_n_steps: int = 1) -> None:
        check_positive(update_every_n_steps=update_every_n_steps)
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        super().__init__(decay=decay, update_every_n_steps=update_every_n_steps)
        self.swapped = False  # whether the module has the average, and this callback the weights themselves

    def setup(self, trainer: Trainer, module: LightningModule, stage: str) -> None:
        if trainer.world_size > 1:
            raise UserError("callbacks=ema is for one process, as each has running statistics of its own; set "
                            "trainer.devices=1")  # fmt: skip
        if trainer.precision in ("bf16-true", "16-true"):
            raise UserError(
                f"callbacks=ema averages in float32, which trainer.precision={trainer.precision} would round; set "
                "trainer.precision=bf16-mixed"
            )
        if stage == "fit":
            net: Any = module.net
            self._average_model = Average(net, module.device, use_buffers=True, **self._kwargs)

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *rest: Any) -> None:
        super().on_train_batch_end(trainer, module.net, *rest)  # type: ignore[arg-type]

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the average where others look for weights."""
        if self.swapped:  # an evaluation is interrupted; `checkpoint` has the module's own tensors
            self._swap_models(module)
        assert self._average_model is not None
        average = self._average_model.state_dict()
        own = {name: value for name, value in average.items() if not name.startswith(PREFIX)}
        of_net = {f"net.{n.removeprefix(PREFIX)}": value for n, value in average.items() if n not in own}
        checkpoint["current_model_state"] = checkpoint["state_dict"]
        checkpoint["state_dict"] = checkpoint["state_dict"] | of_net
        checkpoint["averaging_state"] = own

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        of_net = {k.removeprefix("net."): v for k, v in checkpoint["state_dict"].items() if k.startswith("net.")}
        average = {f"{PREFIX}{name}": value for name, value in of_net.items()}
        assert self._average_model is not None
        self._average_model.load_state_dict(average | checkpoint["averaging_state"])
        module.load_state_dict(checkpoint["current_model_state"])

    def on_fit_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Test the average where there was nothing left to train, too: a run can be resumed in its final test."""
        self._copy_average_to_current(module)

    def _swap_models(self, module: LightningModule) -> None:
        super()._swap_models(module.net)  # type: ignore[arg-type]
        self.swapped = not self.swapped

    def _copy_average_to_current(self, module: LightningModule) -> None:
        super()._copy_average_to_current(module.net)  # type: ignore[arg-type]
