"""Drawings of nets as in Figure 3: one box per weighted layer or pooling, and the shortcuts."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

from torch import nn

from resnet_lab.models.blocks import Block
from resnet_lab.models.count import Layer, Shape, count_layers, count_parameters
from resnet_lab.models.structure import blocks, stage_of

WIDTH, HEIGHT, GAP = 168, 20, 14  # of a box and between two, in pixels
COLUMN, TOP, LEFT = 330, 70, 80
COLOURS = ("#e8e8e8", "#dcd3ee", "#cfe6cf", "#f6d5d0", "#d0e1f4", "#f3e6c4")  # one stage after the other
FONT = 'font-family="Helvetica, Arial, sans-serif"'


class Box(NamedTuple):
    """A layer, or a block without shortcuts to draw; `size` is the height and width of its output."""

    name: str
    label: str
    size: tuple[int, ...]
    stage: str


class Arc(NamedTuple):
    """A shortcut from before box `first` to behind box `last`; dotted where it changes the dimensions."""

    first: int
    last: int
    dotted: bool


def drawing(nets: Mapping[str, nn.Module], shape: Shape) -> str:
    """The nets side by side under their names, for an image (C, H, W), as SVG.

    Shortcuts are solid where they are the identity, and dotted where they change the dimensions (Figure 3).
    Blocks of parallel paths are one box each.

    Raises:
        UserError: a net does not accept such an image.
    """
    columns: list[str] = []
    most = 0
    for number, (name, net) in enumerate(nets.items()):
        boxes, arcs = parts(net, shape)
        most = max(most, len(boxes))
        columns += column(f"{name}: {count_parameters(net):,} parameters", boxes, arcs, LEFT + number * COLUMN)
    height = TOP + most * (HEIGHT + GAP) + GAP
    width = LEFT + len(nets) * COLUMN - 40
    size = f'width="{width}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size}>'
    return "\n".join([head, f'<rect {size} fill="white"/>', *columns, "</svg>"])


def parts(net: nn.Module, shape: Shape) -> tuple[list[Box], list[Arc]]:
    """The boxes in order of use, and the shortcuts between them."""
    of_net = blocks(net)
    boxes: list[Box] = []
    within: dict[str, list[int]] = {}  # the boxes of each block
    for layer in count_layers(net, shape):
        block = next((name for name in of_net if layer.name.startswith(f"{name}.")), "")
        found = of_net.get(block)
        box = box_of(net, layer) if found is None or is_drawn_by_layers(found) else whole(block, found, layer)
        if box is None or layer.name.startswith(f"{block}.shortcut"):
            continue
        if boxes and boxes[-1].name == box.name:  # a further layer of a block that is one box
            boxes[-1] = box
            continue
        within.setdefault(block, []).append(len(boxes))
        boxes.append(box)
    arcs = [
        arc(found, within[name]) for name, found in of_net.items() if isinstance(found, Block) and name in within
    ]
    return boxes, [each for each in arcs if each]


def box_of(net: nn.Module, layer: Layer) -> Box | None:
    """The box of a convolution, a linear layer or a pooling; None for any other layer."""
    module = net.get_submodule(layer.name)
    label = label_of(module)
    return Box(layer.name, label, layer.output_shape[1:], stage_of(layer.name)) if label else None


def label_of(module: nn.Module) -> str:
    if isinstance(module, nn.Conv2d):
        stride = f", /{module.stride[0]}" if module.stride[0] > 1 else ""
        size = "x".join(map(str, module.kernel_size))
        return f"{size} conv, {module.out_channels}{stride}"
    if isinstance(module, nn.Linear):
        return f"fc {module.out_features}"
    kind = type(module).__name__
    if "Pool" not in kind:
        return ""
    of_pool: Any = getattr(module, "stride", 1)
    number = of_pool[0] if isinstance(of_pool, tuple) else of_pool
    return ("max pool" if "Max" in kind else "avg pool") + (f", /{number}" if number > 1 else "")


def is_drawn_by_layers(block: nn.Module) -> bool:
    """Whether its layers follow each other: those of residual and plain blocks do, and a single one."""
    return isinstance(block, Block) or sum(bool(label_of(module)) for module in block.modules()) == 1


def whole(name: str, block: nn.Module, layer: Layer) -> Box:
    return Box(name, type(block).__name__, layer.output_shape[1:], stage_of(name))


def arc(block: Block, boxes: list[int]) -> Arc | None:
    if block.shortcut is None:
        return None
    return Arc(boxes[0], boxes[-1], dotted=not isinstance(block.shortcut, nn.Identity))


def column(title: str, boxes: list[Box], arcs: list[Arc], left: int) -> Iterator[str]:
    """The lines of SVG that draw one net."""
    middle, stages = left + WIDTH / 2, list(dict.fromkeys(box.stage for box in boxes))
    yield text(middle, 30, title, "middle")
    for number, box in enumerate(boxes):
        y = TOP + number * (HEIGHT + GAP)
        colour = COLOURS[stages.index(box.stage) % len(COLOURS)]
        if number:
            yield f'<path d="M{middle} {y - GAP}V{y}" stroke="#333"/>'
        yield f'<rect x="{left}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="3" fill="{colour}" stroke="#555"/>'
        yield text(middle, y + 14, box.label, "middle")
        if box.size and (number == 0 or box.size != boxes[number - 1].size):
            yield text(left - 8, y + 14, "x".join(map(str, box.size)), "end")
    yield from (curve(each, left) for each in arcs)


def text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="12" {FONT}>{escape(words)}</text>'


def curve(shortcut: Arc, left: int) -> str:
    """From the arrow above the first box around the right side to the arrow below the last."""
    start = TOP + shortcut.first * (HEIGHT + GAP) - GAP / 2
    end = TOP + shortcut.last * (HEIGHT + GAP) + HEIGHT + GAP / 2
    middle, side = left + WIDTH / 2, left + WIDTH + 4
    dashes = ' stroke-dasharray="2 4"' if shortcut.dotted else ""
    path = f"M{middle} {start}H{side}C{side + 44} {start} {side + 44} {end} {side} {end}H{middle}"
    return f'<path class="shortcut" d="{path}" fill="none" stroke="#222" stroke-width="1.4"{dashes}/>'
