"""Norms of the gradients, part by part of the net."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from resnet_lab.checks import check_positive
from resnet_lab.models.structure import stage_of


class GradientNorms(Callback):
    """Log the Euclidean norm of the gradient in each part of the net: `gradient_norm/stage1` and so on.

    A value at step s is that of iteration s, before any clipping.

    Args:
        every: iterations from one to the next.

    Raises:
        ValueError: it is not a positive integer.
    """

    def __init__(self, every: int = 50) -> None:
        check_positive(every=every)
        self.every = every

    def on_before_optimizer_step(self, trainer: Trainer, module: LightningModule, optimizer: Optimizer) -> None:
        iteration = trainer.global_step + 1
        if iteration % self.every:
            return
        norms: dict[str, list[Tensor]] = {}
        for name, parameter in module.net.named_parameters():  # type: ignore[operator,union-attr]
            if parameter.grad is not None:
                norms.setdefault(stage_of(name), []).append(parameter.grad.norm())
        values = {f"gradient_norm/{part}": float(torch.stack(of).norm()) for part, of in norms.items()}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=iteration)
