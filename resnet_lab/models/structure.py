"""What the blocks and the layers of a net are: for counting, checkpointing, names, and whoever looks inside.

A forward hook that keeps the output of batch normalization finds it rectified afterwards, as the ReLU behind it
works in place: compute inside the hook what is needed. For the same reason `register_full_backward_hook` on such a
module raises RuntimeError in the forward pass: hook the convolution instead.
"""

from collections.abc import Iterator

from torch import nn

# exactly these: a subclass with a forward of its own is a block
CONTAINERS = (nn.Sequential, nn.ModuleList)


def blocks(net: nn.Module) -> dict[str, nn.Module]:
    """The blocks by name, in the order of their definition: the elements that have weights and modules inside.

    That is residual and plain blocks, highway layers, inception modules; VGG and AlexNet have none.
    """
    return {name: module for name, module in elements(net) if any(module.children()) and has_weights(module)}


def layers(net: nn.Module) -> dict[str, nn.Module]:
    """The layers by name, in the order of their definition: modules that have none inside, or hold all weights
    themselves, as timm's batch normalization with its activation does."""
    return {name: module for name, module in net.named_modules() if is_layer(module)}


def stage_of(name: str) -> str:
    """The part of the net that a module or a weight of that name is in: `stage2` for `stage2.0.conv1.weight`."""
    return name.partition(".")[0]


def elements(net: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """What a net consists of once its containers are opened: the blocks, and the layers outside of them."""
    for name, child in net.named_children():
        if type(child) in CONTAINERS:
            yield from elements(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def is_layer(module: nn.Module) -> bool:
    own = len(list(module.parameters(recurse=False)))
    return not any(module.children()) or 0 < own == len(list(module.parameters()))


def has_weights(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())
