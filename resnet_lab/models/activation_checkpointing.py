"""Blocks that are computed once more in the backward pass, instead of keeping their activations ("Training Deep
Nets with Sublinear Memory Cost", Chen et al., 2016, Section 3)."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from resnet_lab.checks import UserError
from resnet_lab.models.structure import blocks


def checkpoint_blocks(net: nn.Module) -> int:
    """Have training keep only the input of each block, and compute the rest of it again in the backward pass.

    The gradients, the running statistics, the draws of dropout and the keys of the state dict stay what they were.
    Evaluation and everything without gradients run as before.

    Returns:
        The number of blocks.

    Raises:
        UserError: the net has no blocks.
    """
    found = blocks(net).values()
    if not found:
        raise UserError(
            "runtime.activation_checkpointing=true needs a net of residual or plain blocks, highway layers or "
            f"inception modules, and {type(net).__name__} has none; set it to false"
        )
    for block in found:
        # no closure, which a copy of the net would share; no wrapper, which would change the state dict's keys
        block.forward = partial(forward, block)
    return len(found)


def forward(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What the block's class computes, arguments and shapes as there."""
    compute = partial(type(block).forward, block, **kwargs)
    if not (block.training and torch.is_grad_enabled()):
        return compute(*args)
    if torch.compiler.is_compiling():
        # a compiled graph updates the buffers once anyway, and allows no such contexts
        return checkpoint(compute, *args, use_reentrant=False)
    return checkpoint(compute, *args, use_reentrant=False, context_fn=partial(contexts, block))


def contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For the forward pass, and for the recomputation."""
    return nullcontext(), buffers_kept(block)


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Have whatever runs in here update copies of the buffers, such as the running statistics.

    Without any running statistics at hand, batch normalization would save other tensors for the backward pass
    than in the forward pass, which the recomputation must not.
    """
    kept = [
        (owner, name, buffer) for owner in module.modules() for name, buffer in owner.named_buffers(recurse=False)
    ]
    for owner, name, buffer in kept:
        setattr(owner, name, buffer.clone())
    try:
        yield
    finally:
        for owner, name, buffer in kept:
            setattr(owner, name, buffer)
