"""CIFAR nets that are not the paper's: no batch normalization, other activations, initializations and blocks."""

import csv
import inspect
import itertools
import json
import math
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import ROOT, TINY
from omegaconf import OmegaConf
from runs import only_run
from samples import random_pictures
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.analyses import responses, signals
from resnet_lab.checks import UserError
from resnet_lab.models import initialization, resnet_cifar
from resnet_lab.models.activation_checkpointing import checkpoint_blocks
from resnet_lab.models.count import count_layers, count_multiply_adds, count_stages
from resnet_lab.runs.identity import LATER, run_name
from resnet_lab.runs.swept import said, swept
from resnet_lab.weights.files import export_weights, load_weights

TARGET = "resnet_lab.models.resnet_cifar"
FUNCTIONS = {"relu": F.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
OTHERS: list[dict[str, Any]] = [
    {"norm": "none", "activation": "tanh", "initialization": "delta_orthogonal"},
    {"norm": "none", "layers_per_block": 1, "initialization": "dirac"},
    {"activation": "sigmoid", "layers_per_block": 3, "initialization": "xavier"},
]
Composed = Callable[..., dict[str, Any]]


def net_of(shortcut: str = "A", depth: int = 20, **options: Any) -> Any:
    torch.manual_seed(0)
    return resnet_cifar(depth, shortcut, width=4, **options)


def convolutions(net: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.Conv2d)}


class Before(nn.Module):
    """The paper's block as it was before there were options."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True))), inplace=True)


def before() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    net = nn.Sequential()
    for name, module in (
        ("stem", stem),
        ("stage1", nn.Sequential(Before(4, 4, 1))),
        ("stage2", nn.Sequential(Before(4, 8, 2))),
        ("stage3", nn.Sequential(Before(8, 16, 2))),
        ("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))),
    ):
        net.add_module(name, module)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def test_the_defaults_are_the_net_of_before_to_the_last_bit() -> None:
    torch.manual_seed(0)
    old, state = before(), torch.get_rng_state()
    new = net_of("none", 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(new.state_dict()) == list(old.state_dict())
    assert [str(module) for module in new.stem] == [str(module) for module in old.stem]
    images = torch.randn(5, 3, 8, 8)
    outputs = [net(images) for net in (old, new)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for one, other in zip(old.parameters(), new.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one.grad, other.grad)


@pytest.mark.parametrize("options", OTHERS)
@pytest.mark.parametrize("shortcut", ["none", "A", "B", "C"])
def test_any_net_against_the_equations(shortcut: str, options: dict[str, Any]) -> None:
    """The whole net once more, in functional form, on the same weights."""
    net = net_of(shortcut, **options).eval().double()
    for tensor in net.state_dict().values():
        tensor.add_(0.1 * torch.rand_like(tensor)) if tensor.is_floating_point() else None
    w, activate = net.state_dict(), FUNCTIONS[options.get("activation", "relu")]

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight, bias = w[f"{conv}.weight"], w.get(f"{conv}.bias")
        x = F.conv2d(x, weight, bias, stride=stride, padding=weight.shape[2] // 2)
        if options.get("norm") == "none":
            return x
        mean, variance = w[f"{norm}.running_mean"], w[f"{norm}.running_var"]
        return F.batch_norm(x, mean, variance, w[f"{norm}.weight"], w[f"{norm}.bias"])

    images = torch.randn(3, 3, 16, 16, dtype=torch.double)
    x = activate(layer(images, "stem.0", "stem.1"))
    per_block = options.get("layers_per_block", 2)
    for stage, block in itertools.product((1, 2, 3), range(6 // per_block)):
        name, stride = f"stage{stage}.{block}", 2 if stage > 1 and block == 0 else 1
        y = x
        for number in range(1, per_block + 1):
            y = layer(activate(y) if number > 1 else y, f"{name}.conv{number}", f"{name}.bn{number}", stride)
            stride = 1
        strided = 2 if stage > 1 and block == 0 else 1
        if f"{name}.shortcut.0.weight" in w:
            y = y + layer(x, f"{name}.shortcut.0", f"{name}.shortcut.1", strided)
        elif shortcut != "none":
            kept = x[:, :, ::strided, ::strided]
            y = torch.cat([y[:, : kept.shape[1]] + kept, y[:, kept.shape[1] :]], 1)
        x = activate(y)
    expected = x.mean((2, 3)) @ w["head.2.weight"].T + w["head.2.bias"]
    torch.testing.assert_close(net(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers_per_block", [1, 2, 3])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_plain_net_costs_the_same_with_any_number_of_layers_per_block(norm: str, layers_per_block: int) -> None:
    net = resnet_cifar(20, "none", norm=norm, layers_per_block=layers_per_block)
    assert (
        sum(p.numel() for p in net.parameters())
        == {"batch": 269722, "none": 269722 - 16 * 7 - 32 * 6 - 64 * 6}[norm]
    )
    assert count_multiply_adds(net, (3, 32, 32)) == 40551040
    assert len(convolutions(net)) == 19
    assert all((layer.bias is not None) == (norm == "none") for layer in convolutions(net).values())
    assert {len(net.get_submodule(f"stage{n}")) for n in (1, 2, 3)} == {6 // layers_per_block}


def test_the_names_of_the_layers() -> None:
    net = net_of("B", norm="none", layers_per_block=3)
    stage2 = [name for name in net.state_dict() if name.startswith("stage2.0")]
    names = [f"stage2.0.conv{number}.{what}" for number in (1, 2, 3) for what in ("weight", "bias")]
    assert stage2 == [*names, "stage2.0.shortcut.0.weight", "stage2.0.shortcut.0.bias"]
    assert [row.structure for row in count_stages(net, count_layers(net, (3, 8, 8)))[:2]] == [
        "3x3, 4",
        "[3x3, 4; 3x3, 4; 3x3, 4] x 2",
    ]


def test_xavier_and_normal() -> None:
    net = resnet_cifar(8, "none", initialization="xavier")
    assert net.stage3[0].conv2.weight.std().item() == pytest.approx(math.sqrt(2 / (2 * 64 * 9)), rel=0.02)
    net = resnet_cifar(8, "C", initialization="normal", norm="none")
    for weight in (net.stage3[0].conv2.weight, net.stage3[0].shortcut[0].weight, net.head[2].weight):
        assert weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert all(not p.any() for name, p in net.named_parameters() if name.endswith("bias"))


def test_dirac_kernels_pass_a_positive_input_through_a_plain_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = resnet_cifar(20, "none", norm="none", initialization="dirac")
    monkeypatch.setattr(initialization, "DIRAC_NOISE", 0.0)
    net = resnet_cifar(20, "none", norm="none", initialization="dirac")
    images = torch.rand(2, 16, 8, 8)
    assert torch.equal(net.stage1(images), images)
    # where channels are added and the image is subsampled, the identity is that of option A
    assert torch.equal(net.stage2(images), F.pad(images[:, :, ::2, ::2], (0, 0, 0, 0, 0, 16)))
    noise = noisy.stage3[1].conv1.weight - net.stage3[1].conv1.weight
    assert noise.std().item() == pytest.approx(0.1 * math.sqrt(2 / (64 * 9)), rel=0.02)
    he = resnet_cifar(8, "B", initialization="dirac").stage3[0].shortcut[0].weight
    assert he.std().item() == pytest.approx(math.sqrt(2 / 32), rel=0.1)


@pytest.mark.parametrize("shortcut", ["none", "C"])
def test_delta_orthogonal_kernels_are_an_orthogonal_matrix_in_the_centre(shortcut: str) -> None:
    for layer in convolutions(net_of(shortcut, 8, initialization="delta_orthogonal")).values():
        weight = layer.weight.detach().clone()
        middle = weight.shape[2] // 2
        centre = weight[:, :, middle, middle].clone()
        small = min(centre.shape)
        product = centre @ centre.T if len(centre) == small else centre.T @ centre
        torch.testing.assert_close(product, torch.eye(small))
        weight[:, :, middle, middle] = 0
        assert not weight.any()


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("layers_per_block", [1, 2, 3])
def test_with_zero_last_each_block_starts_as_its_shortcut(layers_per_block: int, activation: str) -> None:
    for shortcut in ("A", "B", "C"):
        net = net_of(
            shortcut, activation=activation, layers_per_block=layers_per_block, initialization="zero_last"
        )
        images = torch.randn(4, 4, 8, 8)
        for block in (net.stage1[1], net.stage2[0]):
            assert torch.equal(block.eval()(images), FUNCTIONS[activation](block.shortcut(images)))
        he, scaled = net_of(shortcut, layers_per_block=layers_per_block).state_dict(), net.state_dict()
        changed = {name for name in he if not torch.equal(he[name], scaled[name])}
        assert changed == {name for name in he if name.endswith(f".bn{layers_per_block}.weight")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "layer"}, "norm must be one of batch, none; got 'layer'"),
        ({"norm": None}, "norm must be one of batch, none; got None"),
        ({"activation": "gelu"}, "activation must be one of relu, sigmoid, tanh; got 'gelu'"),
        ({"initialization": "zero"}, "initialization must be one of he, xavier, .*, zero_last; got 'zero'"),
        ({"layers_per_block": 4}, "layers_per_block must be one of 1, 2, 3, got 4"),
        ({"layers_per_block": 0}, "layers_per_block must be a positive integer, got 0"),
        ({"layers_per_block": 1, "depth": 2}, r"depth must be 3n\+2 with layers_per_block=1 \(5, 8, 11, .* got 2"),
        (
            {"layers_per_block": 3, "depth": 32},
            r"depth must be 9n\+2 with layers_per_block=3 \(11, 20, 29, .* 20, 56, 110\), got 32",
        ),
        ({"initialization": "zero_last", "shortcut": "none"}, "zero_last needs shortcut.* got shortcut=none"),
        (
            {"initialization": "zero_last", "norm": "none"},
            "zero_last needs .* norm=batch, .* got shortcut=A, norm=none",
        ),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resnet_cifar(**{"depth": 20, "shortcut": "A"} | options)


def test_what_leaves_the_names_of_runs_is_what_the_net_and_the_configs_have_by_default() -> None:
    parameters = inspect.signature(resnet_cifar).parameters
    for name in ("cifar_plain", "cifar_resnet"):
        config = OmegaConf.load(ROOT / f"conf/model/{name}.yaml")
        assert LATER[TARGET] == {key: parameters[key].default for key in LATER[TARGET]}
        assert LATER[TARGET] == {key: config[key] for key in LATER[TARGET]}


def test_runs_of_before_keep_their_names(composed: Composed) -> None:
    config = composed(*TINY)
    old = config | {"model": {k: v for k, v in config["model"].items() if k not in LATER[TARGET]}}
    assert run_name(old) == run_name(config) == config["run_name"]
    others = [composed(*TINY, f"model.{word}")["run_name"] for word in ("norm=none", "activation=tanh")]
    assert len({config["run_name"], *others}) == 3


def test_what_was_swept_has_a_name_for_each_value(composed: Composed) -> None:
    config = composed(*TINY)
    old = config | {"model": {k: v for k, v in config["model"].items() if k not in LATER[TARGET]}}
    configs = [
        old,
        composed(*TINY, "model.norm=none"),
        composed(*TINY, "model.norm=none", "model.activation=tanh"),
    ]
    keys = swept(configs)
    assert [said(config, keys) for config in configs] == [
        "norm batch, activation relu",
        "norm none, activation relu",
        "norm none, activation tanh",
    ]
    assert swept([old, config]) == []


@pytest.mark.parametrize("options", OTHERS)
def test_analyses_checkpointing_and_files_take_any_net(options: dict[str, Any], tmp_path: Any) -> None:
    net = net_of("A", **options)
    names = [name for name in convolutions(net) if "shortcut" not in name]
    for analysis in (responses, signals):
        rows = analysis(net, random_pictures())  # type: ignore[operator]
        assert [row["name"] for row in rows] == names
        assert all(math.isfinite(value) for row in rows for value in row.values() if not isinstance(value, str))
    export_weights(net, tmp_path / "net.safetensors", "safetensors")
    again = resnet_cifar(20, "A", width=4, **options)
    load_weights(again, tmp_path / "net.safetensors")
    assert all(
        torch.equal(*pair) for pair in zip(net.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert checkpoint_blocks(again) == 3 * (6 // options.get("layers_per_block", 2))
    images = random_pictures().images
    for one in (net, again):
        one.train()(images).square().sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(net.parameters(), again.parameters(), strict=True))


def test_the_response_without_batch_normalization_is_the_layers_own_output() -> None:
    net, pictures = net_of("A", 8, norm="none"), random_pictures()
    outputs: list[Tensor] = []
    net.stage1[0].conv1.register_forward_hook(lambda *seen: outputs.append(seen[2].clone()))
    net(pictures.images)
    row = responses(net, pictures)[1]  # type: ignore[arg-type]
    assert row["name"] == "stage1.0.conv1"
    assert row["std"] == pytest.approx(outputs[0].std(correction=0).item(), rel=1e-4)


@pytest.mark.parametrize("options", OTHERS)
def test_any_net_as_onnx(options: dict[str, Any], tmp_path: Any) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export_weights(net_of("B", **options), tmp_path / "net.onnx", "onnx", (3, 8, 8))  # held against ONNX Runtime


@pytest.mark.parametrize(
    ("options", "remark"),
    [
        ({"norm": "none"}, r"this net has no batch normalization.*\(model.norm=batch\)"),
        ({"activation": "tanh"}, r"another activation than the ReLU.*\(model.activation=relu\)"),
        ({"layers_per_block": 3}, r"two layers per block \(model.layers_per_block=2\)"),
        ({"layers_per_block": 1}, r"two layers per block \(model.layers_per_block=2\)"),
    ],
)
def test_others_have_no_such_net(options: dict[str, Any], remark: str, tmp_path: Any) -> None:
    net = net_of("A", **options)
    with pytest.raises(UserError, match=f"{remark}; choose safetensors or onnx"):
        export_weights(net, tmp_path / "net.pth", "torchvision")
    theirs = {re.sub("^stem.0", "conv1", re.sub("^stem.1", "bn1", k)): v for k, v in net.state_dict().items()}
    torch.save(theirs, tmp_path / "net.pth")
    assert re.search(f"beware: .*{remark}", load_weights(net, tmp_path / "net.pth"))


@pytest.mark.parametrize(
    "words",
    [
        ["model.norm=none", "model.activation=tanh"],
        ["model.layers_per_block=1", "model.initialization=dirac"],
        ["model.layers_per_block=3", "model.depth=11"],
    ],
)
def test_a_run(
    resnet_lab: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Any, words: list[str]
) -> None:
    ended = resnet_lab("train", *TINY, "model=cifar_resnet", *words)
    assert ended.returncode == 0, ended.stderr
    run = only_run(tmp_path)
    shown = json.loads(resnet_lab("info", f"run={run.directory}", "format=json").stdout)
    assert shown["parameters"] == run.record()["parameters"]


def test_a_sweep_over_the_norm_has_readable_names(
    resnet_lab: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Any
) -> None:
    ended = resnet_lab("train", "-m", *TINY, "model.norm=batch,none", "experiment_name=norms")
    assert ended.returncode == 0, ended.stderr
    report = (tmp_path / "outputs/norms/report.md").read_text()
    assert all(f"| plain-8, norm {norm} |" in report for norm in ("batch", "none"))
    rows = csv.DictReader((tmp_path / "outputs/norms/results.csv").read_text().splitlines())
    assert [row["model.norm"] for row in rows] == ["batch", "none"]
