"""Activation checkpointing: recompute a block's activations in the backward pass instead of keeping them
("Training Deep Nets with Sublinear Memory Cost", Chen et al., 2016, Section 3)."""

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
    """Make training keep only the input of each block and recompute the rest in the backward pass.

    Gradients, running statistics, dropout and the keys of the state dict do not change, nor does anything that
    runs without gradients.

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
        # a closure would be shared by copies of the net, a wrapper would change the keys of the state dict
        block.forward = partial(forward, block)
    return len(found)


def forward(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Run the forward method of the block's class, checkpointed in training."""
    compute = partial(type(block).forward, block, **kwargs)
    if not (block.training and torch.is_grad_enabled()):
        return compute(*args)
    if torch.compiler.is_compiling():
        # a compiled graph updates the buffers only once anyway, and does not support these contexts
        return checkpoint(compute, *args, use_reentrant=False)
    return checkpoint(compute, *args, use_reentrant=False, context_fn=partial(contexts, block))


def contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Make the context of the forward pass and that of the recomputation."""
    return nullcontext(), buffers_kept(block)


@contextmanager
def buffers_kept(module: nn.Module) -> Iterator[None]:
    """Update copies of the buffers, such as running statistics, and restore the originals at the end.

    With the buffers removed instead, batch normalization would save other tensors for the backward pass than it
    did in the forward pass, which checkpointing refuses.
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
