"""Blocks computed again in the backward pass: the same training, to the last bit, in less memory."""

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.checks import UserError
from resnet_lab.models import (
    alexnet,
    googlenet,
    highway,
    inception,
    inception_resnet_v2,
    inception_v4,
    preact_resnet_cifar,
    resnet_cifar,
    resnet_imagenet,
    vgg,
)
from resnet_lab.models.activation_checkpointing import checkpoint_blocks
from resnet_lab.models.auxiliary import WithAuxiliary
from resnet_lab.models.count import count_activation_bytes
from resnet_lab.models.structure import blocks

Make = Callable[[], nn.Module]
NETS: dict[str, tuple[Make, int, int]] = {  # blocks, pixels
    "cifar": (lambda: resnet_cifar(20, "A"), 9, 16),
    "plain": (lambda: resnet_cifar(14, "none", width=4), 6, 16),
    "preact": (lambda: preact_resnet_cifar(14, "B", width=4), 6, 16),
    "bottlenecks": (lambda: resnet_imagenet(50, "B", num_classes=10, stem="cifar"), 16, 16),
    "highway": (lambda: highway(19, width=4), 15, 16),
    "inception": (lambda: inception("naive", width=4), 6, 16),
    # dropout in the auxiliary classifiers: three convolutions, nine modules, two classifiers
    "googlenet": (lambda: googlenet(auxiliary=True, num_classes=10, stem="cifar"), 14, 32),
}


def loss_of(output: Tensor | WithAuxiliary, labels: Tensor) -> Tensor:
    if not isinstance(output, WithAuxiliary):
        return F.cross_entropy(output, labels)
    auxiliary = sum(F.cross_entropy(logits, labels) for logits in output.auxiliary)
    return F.cross_entropy(output.logits, labels) + output.weight * auxiliary


def trained(net: nn.Module, pixels: int, autocast: bool = False) -> tuple[dict[str, Tensor], list[Tensor | None]]:
    """The state and the last gradients after three steps of SGD, always on the same images."""
    torch.manual_seed(1)
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    for _ in range(3):
        images, labels = torch.randn(4, 3, pixels, pixels), torch.randint(10, (4,))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = loss_of(net(images.contiguous(memory_format=torch.channels_last)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # as much was drawn, too
    return net.state_dict() | {"draw": torch.rand(1)}, [p.grad for p in net.parameters()]


def assert_same_training(make: Make, pixels: int, expected_blocks: int, autocast: bool = False) -> None:
    torch.manual_seed(0)
    net = make().to(memory_format=torch.channels_last)
    checkpointed = copy.deepcopy(net)
    assert checkpoint_blocks(checkpointed) == expected_blocks
    state, gradients = trained(net, pixels, autocast)
    same_state, same_gradients = trained(checkpointed, pixels, autocast)
    assert list(state) == list(same_state)
    for name, tensor in state.items():
        assert torch.equal(tensor, same_state[name]), name
    for gradient, same in zip(gradients, same_gradients, strict=True):
        assert gradient is same is None or torch.equal(gradient, same)


@pytest.mark.parametrize("name", NETS)
def test_state_and_gradients_are_the_same_to_the_last_bit(name: str) -> None:
    make, expected_blocks, pixels = NETS[name]
    assert_same_training(make, pixels, expected_blocks)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar", "googlenet"])
def test_under_autocast(name: str) -> None:
    make, expected_blocks, pixels = NETS[name]
    assert_same_training(make, pixels, expected_blocks, autocast=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled() -> None:
    """One block, as each of another shape takes ten seconds to compile."""
    torch.manual_seed(0)
    stem, stage1, *_, head = resnet_cifar(8, "A", width=10)
    net = nn.Sequential(stem, stage1, *head[:2])
    compiled = copy.deepcopy(net)
    assert checkpoint_blocks(compiled) == 1
    compiled.compile()
    state, gradients = trained(net, 16)
    same_state, same_gradients = trained(compiled, 16)
    for name, tensor in state.items():
        torch.testing.assert_close(same_state[name], tensor, rtol=1e-3, atol=1e-5, msg=name)
    torch.testing.assert_close(same_gradients, gradients, rtol=1e-3, atol=1e-5)


class Dropping(nn.Module):
    """A block that draws, with batch normalization whose statistics are plain means."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 10, kernel_size=3)
        self.bn = nn.BatchNorm2d(10, momentum=None)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.bn(self.conv(x)), 0.5, self.training).mean((2, 3))


def test_draws_are_repeated_and_statistics_that_are_means_counted_once() -> None:
    assert_same_training(lambda: nn.Sequential(Dropping()), 8, 1)


def test_evaluation_is_computed_once() -> None:
    net = resnet_cifar(8, "A", width=4).eval()
    images = torch.randn(2, 3, 8, 8)
    before = net(images)
    checkpoint_blocks(net)
    calls: list[str] = []
    for block in blocks(net).values():
        block.conv1.register_forward_hook(lambda *_: calls.append("conv1"))
    output = net(images)
    assert torch.equal(output, before)
    output.sum().backward()
    with torch.no_grad():
        net.train()(images)
    assert len(calls) == 2 * 3
    net(images).sum().backward()
    assert len(calls) == 2 * 3 + 2 * 3


def test_copies_compute_with_their_own_weights() -> None:
    net = resnet_cifar(8, "A", width=4)
    checkpoint_blocks(net)
    images = torch.randn(2, 3, 8, 8)
    for same in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        nn.init.zeros_(same.stage1[0].conv1.weight)
        assert not torch.equal(same(images), net(images))
        same(images).sum().backward()
        assert same.stage1[0].conv1.weight.grad is not None
    assert net.stage1[0].conv1.weight.grad is None


def test_only_the_inputs_of_blocks_are_kept() -> None:
    net = resnet_cifar(56, "A")
    before = count_activation_bytes(net, (3, 32, 32))
    checkpoint_blocks(net)
    assert count_activation_bytes(net, (3, 32, 32)) < before / 2


@pytest.mark.parametrize("make", [inception_v4, inception_resnet_v2])
def test_timm_has_blocks(make: Callable[..., nn.Module]) -> None:
    pytest.importorskip("timm")
    with torch.device("meta"):
        net = make(num_classes=10)
    keys = list(net.state_dict())
    assert checkpoint_blocks(net) > 20
    assert list(net.state_dict()) == keys


@pytest.mark.parametrize("make", [alexnet, lambda: vgg(11)])
def test_a_net_without_blocks_is_refused(make: Make) -> None:
    with torch.device("meta"):
        net = make()
    with pytest.raises(UserError, match=f"checkpointing=true needs .*, and {type(net).__name__} has none"):
        checkpoint_blocks(net)
