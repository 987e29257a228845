"""What the blocks and layers of a net are, and what hooks on them see."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from resnet_lab.models import highway, inception, preact_resnet_cifar, resnet_cifar, resnet_imagenet, vgg
from resnet_lab.models.blocks import Block
from resnet_lab.models.structure import blocks, layers, stage_of
from resnet_lab.weights.names import shared_blocks


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: resnet_cifar(14, "none"),
        lambda: resnet_cifar(14, "C"),
        lambda: preact_resnet_cifar(14, "A"),
        lambda: resnet_imagenet(50, "B"),
    ],
)
def test_the_blocks_of_residual_and_plain_nets(make: Callable[[], nn.Module]) -> None:
    net = on_meta(make)
    found = blocks(net)
    assert [name for name, module in net.named_modules() if isinstance(module, Block)] == list(found)
    assert {stage_of(name) for name in found} == {name for name, _ in net.named_children() if "stage" in name}


def test_the_blocks_of_other_nets() -> None:
    assert list(blocks(on_meta(lambda: highway(10))))[:2] == ["stage1.2", "stage1.3"]
    assert list(blocks(on_meta(lambda: inception("naive", modules=1)))) == ["stage1.0", "stage2.1", "stage3.1"]
    assert blocks(on_meta(lambda: vgg(11))) == {}


def test_torchvision_has_no_pre_activation() -> None:
    assert shared_blocks(on_meta(lambda: resnet_cifar(8, "A")))
    assert not shared_blocks(on_meta(lambda: preact_resnet_cifar(8, "A")))


def test_the_layers_have_all_weights_once() -> None:
    net = on_meta(lambda: resnet_cifar(8, "C"))
    found = layers(net)
    assert [name for name in found if name.startswith("stage2.0")] == [
        *(f"stage2.0.{name}" for name in ("conv1", "bn1", "conv2", "bn2", "shortcut.0", "shortcut.1")),
    ]
    assert {id(w) for layer in found.values() for w in layer.parameters()} == {id(w) for w in net.parameters()}
    assert [stage_of(name) for name in ("stem", "stage2.0.conv1.weight", "head.2")] == ["stem", "stage2", "head"]


@pytest.mark.parametrize(
    ("shortcut", "changed"), [("A", {"bn1": True, "bn2": False}), ("none", {"bn1": True, "bn2": True})]
)
def test_an_output_of_batch_normalization_that_a_hook_keeps_is_rectified_afterwards(
    shortcut: str, changed: dict[str, bool]
) -> None:
    block = blocks(resnet_cifar(8, shortcut))["stage1.0"]
    seen: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: object, output: Tensor) -> None:
            seen[name], kept[name] = output.detach().clone(), output

        return hook

    for name in changed:
        block.get_submodule(name).register_forward_hook(look(name))
    block(torch.randn(2, 16, 8, 8))
    for name, rectified in changed.items():
        assert seen[name].min() < 0
        assert torch.equal(kept[name], seen[name].relu() if rectified else seen[name])


def test_a_full_backward_hook_fits_convolutions_and_not_batch_normalization() -> None:
    block = blocks(resnet_cifar(8, "A"))["stage1.0"]
    norms: list[Tensor] = []
    block.get_submodule("conv1").register_full_backward_hook(lambda _, __, gradients: norms.append(gradients[0]))
    block(torch.randn(2, 16, 8, 8, requires_grad=True)).sum().backward()
    assert norms[0].shape == (2, 16, 8, 8)
    block.get_submodule("bn1").register_full_backward_hook(lambda *_: None)
    with pytest.raises(RuntimeError, match="modified inplace"):
        block(torch.randn(2, 16, 8, 8))
