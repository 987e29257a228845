"""What a copy of a net does inside its blocks: its F seen, or put out of action."""

from torch import Tensor, nn

from resnet_lab.checks import UserError
from resnet_lab.models.blocks import Block
from resnet_lab.models.structure import blocks


def blocks_with_f(net: nn.Module) -> dict[str, Block]:
    """The blocks that compute F(x), or F(x) + shortcut(x), by name.

    Raises:
        UserError: the net has none.
    """
    found = {name: block for name, block in blocks(net).items() if isinstance(block, Block)}
    if not found:
        raise UserError(f"{type(net).__name__} has no plain or residual block; take cifar_plain or cifar_resnet")
    return found


class Watched:
    """A block with its last input x, its F(x), and its output."""

    def __init__(self, block: Block) -> None:
        self.shortcut = block.shortcut
        self.x = self.f = self.output = Tensor()
        self._layers = block.layers
        block.layers = self._watched  # type: ignore[method-assign]
        block.register_forward_hook(self._ended)

    def _watched(self, x: Tensor) -> Tensor:
        self.x, self.f = x, self._layers(x)
        return self.f.clone()  # what follows may work in place

    def _ended(self, _: nn.Module, inputs: object, output: Tensor) -> None:
        self.output = output


def has_relu(block: Block) -> bool:
    """Whether ReLU is the nonlinearity of the block."""
    return isinstance(block.activate.__self__, nn.ReLU)  # type: ignore[attr-defined]


def take_out(block: Block) -> None:
    """Leave nothing of the block but its shortcut, or, in a plain net, what a shortcut would be: the identity."""
    block.layers = zero if block.shortcut is not None else Tensor.clone  # type: ignore[assignment,method-assign]
    if block.shortcut is None:
        block.activate = Tensor.clone  # ReLU would change nothing, another nonlinearity would


def zero(x: Tensor) -> float:
    return 0.0
