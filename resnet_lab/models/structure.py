"""The blocks and layers of a net, defined once for counting, checkpointing, names and analyses.

A forward hook that keeps the output of batch normalization finds it rectified afterwards, because the next ReLU
works in place: compute what is needed inside the hook. For the same reason `register_full_backward_hook` on such a
module raises RuntimeError in the forward pass: hook the convolution instead.
"""

from collections.abc import Iterator

from torch import nn

# exactly these: a subclass with a forward of its own is a block
CONTAINERS = (nn.Sequential, nn.ModuleList)


def blocks(net: nn.Module) -> dict[str, nn.Module]:
    """Map names to blocks, in order of definition: the elements with weights and with modules inside.

    These are residual and plain blocks, highway layers and inception modules; VGG and AlexNet have none.
    """
    return {name: module for name, module in elements(net) if any(module.children()) and has_weights(module)}


def layers(net: nn.Module) -> dict[str, nn.Module]:
    """Map names to layers, in order of definition: modules without modules inside, or with all weights of their
    own, such as timm's batch normalization with its activation."""
    return {name: module for name, module in net.named_modules() if is_layer(module)}


def stage_of(name: str) -> str:
    """The part of the net that contains the named module or weight: `stage2` for `stage2.0.conv1.weight`."""
    return name.partition(".")[0]


def heads(net: nn.Module) -> list[str]:
    """The names of the linear layers that score the classes: the last one of the net, and of each auxiliary
    classifier."""
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    auxiliary = {stage_of(name): name for name in linear if name.startswith("aux")}
    main = [name for name in linear if name not in auxiliary.values()]
    return [*auxiliary.values(), *main[-1:]]


def elements(net: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the elements of a net with its containers opened: the blocks, and the layers outside of them."""
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
