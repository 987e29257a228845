"""What a GPU does at once: the update of all weights in one kernel, all kernels of a net in one CUDA graph."""

from typing import Any

import torch
from torch import nn

from resnet_lab.config.build import find, parameters

OWN = ("fused", "foreach", "differentiable")  # settings of torch's optimizers that say how the weights are updated
SCALED = ("16-mixed", "16")  # precisions whose gradients a fused optimizer would find scaled


def fused(config: dict[str, Any]) -> dict[str, bool]:
    """The setting `fused=True` of torch's optimizers, where a run is on a GPU by CUDA; none elsewhere.

    On a CPU it would change the digits, and gain less than a hundredth of an iteration. Gradients that are scaled
    or clipped must be seen before the update, and an optimizer that was told how to update the weights does so.
    """
    trainer, optimizer = config["trainer"], config["optimizer"]
    on_gpu = trainer.get("accelerator") in ("gpu", "cuda", "auto", None) and torch.cuda.is_available()
    seen_before = trainer.get("gradient_clip_val") or str(trainer.get("precision")) in SCALED
    if not on_gpu or seen_before or any(name in optimizer for name in OWN):
        return {}
    return {"fused": True} if "fused" in parameters(find("optimizer", optimizer.get("_target_"))) else {}


def compile_net(net: nn.Module, how: bool | str) -> None:
    """Compile a net in place, as `runtime.compile` says: true, or one of torch's modes, which has CUDA graphs."""
    if how is True:
        net.compile()
    elif how:
        net.compile(
            mode=how, dynamic=False
        )  # a graph for each size of batch: those of other sizes cannot be recorded
