"""Parameters, multiply-adds and activation memory, held against the paper, torchvision and arithmetic."""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn
from torchvision import models as torchvision_models

from resnet_lab.checks import UserError
from resnet_lab.config.compose import CONF, to_plain
from resnet_lab.info import describe, show
from resnet_lab.models import alexnet, googlenet, highway, inception_v4, resnet_cifar, resnet_imagenet, vgg
from resnet_lab.models.count import (
    Stage,
    count_activation_bytes,
    count_layers,
    count_multiply_adds,
    count_parameters,
    count_stages,
)

IMAGENET = (3, 224, 224)
# Table 1; the nets of basic blocks with option A, those of bottlenecks with option B, as Section 4.1 has them
TABLE_1 = {(18, "A"): 1.8e9, (34, "A"): 3.6e9, (50, "B"): 3.8e9, (101, "B"): 7.6e9, (152, "B"): 11.3e9}
# everything, the convolutions alone, and the paper's number, which has the linear layers for VGG-19 only
VGG = {16: (15.47e9, 15.35e9, 15.3e9), 19: (19.63e9, 19.51e9, 19.6e9)}
# of everything that Table 1 has as [...] x n
STRUCTURES = {
    18: [
        "[3x3, 64; 3x3, 64] x 2",
        "[3x3, 128; 3x3, 128] x 2",
        "[3x3, 256; 3x3, 256] x 2",
        "[3x3, 512; 3x3, 512] x 2",
    ],
    152: [
        "[1x1, 64; 3x3, 64; 1x1, 256] x 3",
        "[1x1, 128; 3x3, 128; 1x1, 512] x 8",
        "[1x1, 256; 3x3, 256; 1x1, 1024] x 36",
        "[1x1, 512; 3x3, 512; 1x1, 2048] x 3",
    ],
}
ARCHITECTURES = [
    *("alexnet", "vgg11", "vgg13", "vgg16", "vgg19", "googlenet", "inception_v4", "inception_resnet_v2"),
    *("imagenet_plain", "imagenet_resnet", "cifar_plain", "cifar_resnet", "cifar_preact", "highway", "inception"),
    *("inception_naive", "cifar_vgg11_bn", "cifar_alexnet", "cifar_googlenet", "cifar_resnet18"),
]


def on_meta(make: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """Shapes without numbers, which is all that counting takes."""
    with torch.device("meta"):
        return make(*args, **kwargs)


@pytest.mark.parametrize(("depth", "shortcut"), TABLE_1)
def test_multiply_adds_of_table_1(depth: int, shortcut: str) -> None:
    net = on_meta(resnet_imagenet, depth, shortcut, stride_in="1x1")
    assert count_multiply_adds(net, IMAGENET) == pytest.approx(TABLE_1[depth, shortcut], rel=0.02)


@pytest.mark.parametrize("depth", VGG)
def test_multiply_adds_of_vgg(depth: int) -> None:
    layers = count_layers(on_meta(vgg, depth), IMAGENET)
    everything, convolutions, paper = VGG[depth]
    total = sum(layer.multiply_adds for layer in layers)
    assert total == pytest.approx(everything, rel=0.001)
    assert sum(layer.multiply_adds for layer in layers if layer.kind == "Conv2d") == pytest.approx(
        convolutions, rel=0.001
    )
    assert total == pytest.approx(paper, rel=0.02)


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_as_many_parameters_as_torchvisions_resnets(depth: int, stride_in: str) -> None:
    net = on_meta(resnet_imagenet, depth, "B", stride_in=stride_in)
    assert count_parameters(net) == count_parameters(on_meta(getattr(torchvision_models, f"resnet{depth}")))


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_as_many_parameters_as_torchvisions_vgg(depth: int, batch_norm: bool) -> None:
    theirs = getattr(torchvision_models, f"vgg{depth}{'_bn' if batch_norm else ''}")
    assert count_parameters(on_meta(vgg, depth, batch_norm)) == count_parameters(on_meta(theirs))


def test_as_many_parameters_as_torchvisions_others() -> None:
    assert count_parameters(on_meta(alexnet)) == count_parameters(on_meta(torchvision_models.alexnet))
    for auxiliary in (True, False):
        theirs = on_meta(torchvision_models.googlenet, aux_logits=auxiliary, init_weights=False)
        assert count_parameters(on_meta(googlenet, auxiliary)) == count_parameters(theirs)


@pytest.mark.parametrize("depth", STRUCTURES)
def test_stages_are_the_rows_of_table_1(depth: int) -> None:
    net = on_meta(resnet_imagenet, depth, "B")
    first, *stages, last = count_stages(net, count_layers(net, IMAGENET))
    assert first[:3] == ("conv1 (stem)", (56, 56), "7x7, 64, stride 2; 3x3 max pool, stride 2")
    assert [row.name for row in stages] == [f"conv{n + 1}_x (stage{n})" for n in (1, 2, 3, 4)]
    assert [row.output_size for row in stages] == [(56, 56), (28, 28), (14, 14), (7, 7)]
    assert [row.structure for row in stages] == STRUCTURES[depth]
    assert last[:3] == ("fc (head)", (1, 1), "average pool; 1000-d fc")


def test_stages_of_other_nets() -> None:
    net = on_meta(highway, 19)
    rows = count_stages(net, count_layers(net, (3, 32, 32)))
    assert rows[1][:3] == ("stage2", (16, 16), "3x3, 32, stride 2; [3x3, 32; 3x3, 32] x 5")
    net = on_meta(vgg, 11, num_classes=10)
    features, pooling, classifier = count_stages(net, count_layers(net, IMAGENET))
    assert features.structure.startswith(
        "3x3, 64; 2x2 max pool, stride 2; 3x3, 128; 2x2 max pool, stride 2; [3x3, 256] x"
    )
    assert pooling == Stage("avgpool", (7, 7), "average pool", 0, 0)
    assert classifier.structure == "[4096-d fc] x 2; 10-d fc"


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_every_net_is_counted(model: str) -> None:
    if model.startswith("inception_") and model != "inception_naive":
        pytest.importorskip("timm")
    small = model.startswith("cifar") or model in ("highway", "inception", "inception_naive")
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("info", [f"model={model}", "data=synthetic", f"data.image_size={32 if small else 224}"])
    with torch.device("meta"):
        facts = describe(to_plain(cfg.model), to_plain(cfg.data))
    assert json.loads(json.dumps(facts))
    stages, layers = facts["stages"], facts["layers"]
    assert sum(row["parameters"] for row in stages) == facts["parameters"]
    assert sum(row["multiply_adds"] for row in stages) == facts["multiply_adds"] > 1e6
    in_training = sum(row["parameters"] for row in stages if row["output_size"] is None)
    assert sum(row["parameters"] for row in layers) == facts["parameters"] - in_training
    assert (in_training > 0) == ("googlenet" in model)
    assert facts["activation_bytes"] > 1e5
    short, long = show(facts, "stages").splitlines(), show(facts, "layers").splitlines()
    assert len(short) == len(stages) + 4
    assert len(long) == len(stages) + len(layers) + 8
    assert max(map(len, short)) < 300


def test_activation_memory_is_what_the_derivatives_need() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 4, kernel_size=3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 10),
    )
    # the image; the convolution's output; that of ReLU; the linear layer's input; a mean and a deviation for two
    numbers = 3 * 64 + 4 * 64 + 4 * 64 + 4 + (4 + 4) // 2
    assert count_activation_bytes(net, (3, 8, 8)) == 4 * numbers
    net[2] = nn.ReLU()
    assert count_activation_bytes(net, (3, 8, 8)) == 4 * numbers


def test_activation_memory_is_the_same_without_numbers() -> None:
    for make in (lambda: resnet_cifar(8, "A"), lambda: googlenet(num_classes=10, stem="cifar")):
        assert count_activation_bytes(make(), (3, 32, 32)) == count_activation_bytes(on_meta(make), (3, 32, 32))


def test_auxiliary_classifiers_are_remembered_in_training() -> None:
    with_them, without = (on_meta(googlenet, auxiliary, stem="cifar") for auxiliary in (True, False))
    assert count_activation_bytes(with_them, (3, 32, 32)) > count_activation_bytes(without, (3, 32, 32))


@pytest.mark.parametrize("count", [count_layers, count_activation_bytes])
def test_counting_leaves_no_trace(count: Callable[..., Any]) -> None:
    net = googlenet(num_classes=10, stem="cifar").train()
    net.conv2.eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes, draws = [module.training for module in net.modules()], torch.get_rng_state()
    buffers = [id(buffer) for buffer in net.buffers()]
    count(net, (3, 32, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), draws)
    assert [id(buffer) for buffer in net.buffers()] == buffers
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize(
    ("make", "shape", "named"),
    [
        (lambda: vgg(16, in_channels=1), (1, 8, 8), "VGG does not take images of 1x8x8"),
        (lambda: alexnet(in_channels=1), (1, 28, 28), "AlexNet does not take images of 1x28x28"),
        (lambda: inception_v4(in_channels=1), (1, 28, 28), "InceptionV4 does not take images of 1x28x28"),
    ],
)
@pytest.mark.parametrize("count", [count_multiply_adds, count_activation_bytes])
def test_too_small_an_image(make: Any, shape: tuple[int, int, int], named: str, count: Any) -> None:
    if "Inception" in named:
        pytest.importorskip("timm")
    net = on_meta(make)
    with pytest.raises(UserError, match=named) as raised:
        count(net, shape)
    assert "\n" not in str(raised.value)
    assert "where a model has a stem, model.stem=cifar" in str(raised.value)
    assert net.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.slow
def test_the_command(resnet_lab: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    ended = resnet_lab("info", "model=cifar_resnet", "model.depth=56", "data=cifar10")
    lines = ended.stdout.splitlines()
    assert lines[2].split(maxsplit=4)[-1] == "[3x3, 16; 3x3, 16] x 9"
    assert lines[-2] == "activations kept for the backward pass: 4.3 MB per image (float32)"
    assert "projections of shortcuts included, for one image of 3x32x32; batch normalization, ReLU" in lines[-1]
    ended = resnet_lab("info", "model=vgg16", "data=digits")
    assert ended.returncode == 1
    assert ended.stderr.startswith("resnet-lab-info: model: VGG does not take images of 1x8x8 (")
    assert len(ended.stderr.splitlines()) == 1
    assert "detail must be one of stages, layers; got 'all'" in resnet_lab("info", "detail=all").stderr
