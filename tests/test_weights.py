"""Weights in and out: each file computes what its net computed, or is refused in a sentence."""

import hashlib
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hydra import compose, initialize_config_dir
from samples import write_cifar10
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_lab.checks import UserError
from resnet_lab.config.compose import CONF, resolved
from resnet_lab.eval import perform as evaluate
from resnet_lab.export import export
from resnet_lab.models import (
    alexnet,
    googlenet,
    highway,
    inception,
    preact_resnet_cifar,
    resnet_cifar,
    resnet_imagenet,
    vgg,
)
from resnet_lab.runs.directory import Run
from resnet_lab.runs.worker import execute
from resnet_lab.training.checkpoint import read_checkpoint
from resnet_lab.weights import files as weights
from resnet_lab.weights import onnx
from resnet_lab.weights.files import export_weights, load_weights

State = dict[str, Tensor]
Tiny = Callable[..., tuple[Run, dict[str, Any]]]
FOREIGN_NET = ["model=cifar_resnet", "model.depth=8", "model.width=4", "data=synthetic", "data.image_size=8"]


def perturbed(net: nn.Module) -> nn.Module:
    """In evaluation, with statistics that are not those of the start."""
    torch.manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                tensor.data += 0.3 * torch.rand_like(tensor) - 0.1
            module.num_batches_tracked += 7
    return net.eval()


def saved(content: Any, path: Path, **how: Any) -> Path:
    torch.save(content, path, **how)
    return path


def unset(make: Callable[[], nn.Module]) -> nn.Module:
    """Without the time that it takes to draw weights."""
    with torch.device("meta"):
        net = make()
    return net.to_empty(device="cpu").eval()


def small(shortcut: str = "A", **settings: Any) -> nn.Module:
    return perturbed(resnet_cifar(**{"depth": 14, "shortcut": shortcut, "width": 4} | settings))


def assert_same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


class TheirBlock(nn.Module):
    """Option A with the zero channels on both sides, as it is published for CIFAR-10."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.stride, self.pad = channels // before, channels // 4 if channels > before else 0
        self.conv1 = nn.Conv2d(before, channels, 3, self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.relu(out + F.pad(kept, (0, 0, 0, 0, self.pad, self.pad)))


class TheirNet(nn.Module):
    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        before = width
        for number in (1, 2, 3):
            channels = width * 2 ** (number - 1)
            stage = [TheirBlock(before if block == 0 else channels, channels) for block in range(blocks)]
            setattr(self, f"layer{number}", nn.Sequential(*stage))
            before = channels
        self.linear = nn.Linear(before, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


@pytest.mark.parametrize("depth", [18, 34, 50, *(pytest.param(d, marks=pytest.mark.slow) for d in (101, 152))])
def test_torchvisions_resnets_compute_the_same_here_and_go_back(depth: int, tmp_path: Path) -> None:
    theirs = perturbed(getattr(torchvision.models, f"resnet{depth}")(num_classes=10))
    net = unset(lambda: resnet_imagenet(depth, "B", num_classes=10, stride_in="3x3"))
    said = load_weights(net, saved(theirs.state_dict(), tmp_path / "theirs.pth"))
    assert said == f"{tmp_path}/theirs.pth has torchvision's names"
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(images)
        assert (net(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert_same(weights.torchvision_weights(net, "both"), theirs.state_dict())
    (tmp_path / "theirs.pth").unlink()  # of up to 240 MB, which pytest would keep


def test_a_net_of_ours_is_torchvisions(tmp_path: Path) -> None:
    net = perturbed(resnet_imagenet(18, "B", num_classes=10))
    export_weights(net, tmp_path / "net.pth", "torchvision")
    theirs = torchvision.models.resnet18(num_classes=10).eval()
    theirs.load_state_dict(torch.load(tmp_path / "net.pth"), strict=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images), net(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("blocks", "width"), [(1, 16), (3, 6)])
def test_padding_on_both_sides_computes_the_same_here_and_goes_back(
    blocks: int, width: int, tmp_path: Path
) -> None:
    theirs = perturbed(TheirNet(blocks, width))
    path = saved(theirs.state_dict(), tmp_path / "theirs.th")
    net, as_is = (resnet_cifar(6 * blocks + 2, "A", width=width).eval() for _ in range(2))
    assert load_weights(net, path).endswith("its zero channels are taken to be on both sides (padding=both)")
    assert load_weights(as_is, path, "end").endswith("its zero channels are taken to be at the end (padding=end)")
    for padding, ours in (("both", net), ("end", as_is)):
        export_weights(ours, tmp_path / f"{padding}.pth", "torchvision", padding=padding)
        back = torch.load(tmp_path / f"{padding}.pth")
        assert_same({name.replace("fc", "linear"): tensor for name, tensor in back.items()}, theirs.state_dict())
    images = torch.randn(3, 3, 16, 16).double()
    with torch.no_grad():
        expected = theirs.double()(images)
        torch.testing.assert_close(net.double()(images), expected, rtol=1e-6, atol=1e-6)
        assert (as_is.double()(images) - expected).abs().max() > 1e-3


def test_cifar_weights_of_others_err_as_in_their_own_pipeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their net and their normalization on CIFAR-10's files; half of the images are labelled as they see them."""
    write_cifar10(tmp_path)
    file = tmp_path / "cifar-10-batches-bin/test_batch.bin"
    records = np.fromfile(file, np.uint8).reshape(12, 3073)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    pixels = torch.from_numpy(records[:, 1:]).reshape(12, 3, 32, 32).float() / 255
    images = (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    theirs = perturbed(TheirNet(3, 16))
    with torch.no_grad():
        theirs.linear.bias -= theirs(images).mean(0)  # so that not all are taken for one class
        seen = theirs.eval()(images).argmax(1)
    assert len(set(seen.tolist())) > 2
    records[:, 0] = torch.where(torch.arange(12) < 6, seen, (seen + 1) % 10).numpy()
    records.tofile(file)
    saved({"state_dict": prefixed("module.", theirs.state_dict()), "best_prec1": 91.7}, tmp_path / "theirs.th")

    def errors(*overrides: str) -> str:
        net = [f"weights={tmp_path}/theirs.th", "model=cifar_resnet", "model.depth=20"]
        data = ["data=cifar10", f"data.root={tmp_path}", "protocol=center_crop"]
        with initialize_config_dir(CONF, version_base="1.3"):
            config = compose("eval", [*net, *data, *overrides])
        assert evaluate(resolved(config, "eval")) == 0
        return capsys.readouterr().out

    assert "center_crop (shorter side 32, crop 32), 12 images\n  error 50.0000 %" in errors(
        f"data.mean={mean}", f"data.std={std}"
    )
    assert "error 50.0000 %" not in errors(f"data.mean={std}", "data.std=[5,5,5]")


@pytest.mark.parametrize("form", ["torchvision", "safetensors"])
@pytest.mark.parametrize("shortcut", ["A", "B", "C"])
def test_what_is_exported_comes_back_bit_for_bit(form: str, shortcut: str, tmp_path: Path) -> None:
    if form == "safetensors":
        pytest.importorskip("safetensors")
    net = small(shortcut).to(memory_format=torch.channels_last)
    path = tmp_path / f"net{weights.FORMATS[form][0]}"
    export_weights(net, path, form)
    again = resnet_cifar(14, shortcut, width=4)
    load_weights(again, path)
    assert_same(again.state_dict(), net.state_dict())
    assert list(tmp_path.iterdir()) == [path]


def test_names_of_our_own_are_never_reordered(tmp_path: Path) -> None:
    net, again = small(), resnet_cifar(14, "A", width=4)
    said = load_weights(again, saved(net.state_dict(), tmp_path / "net.pt"))
    assert said == f"{tmp_path}/net.pt has the net's own names"
    assert_same(again.state_dict(), net.state_dict())


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "state_dict and DataParallel": lambda s: {"state_dict": prefixed("module.", s), "best_prec1": 91.8},
    "net and DataParallel": lambda s: {"net": prefixed("module.", s), "acc": 95.1, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": {"param_groups": []}},
    "net.": lambda s: prefixed("net.", s),
    "model. of a compiled net": lambda s: prefixed("model._orig_mod.", s),
    "Lightning": lambda s: {
        "pytorch-lightning_version": "2",
        "state_dict": prefixed("model.", s) | {"error.sum": torch.zeros(2)},
    },
    "shortcut": lambda s: {name.replace("downsample", "shortcut"): tensor for name, tensor in s.items()},
    "linear": lambda s: {name.replace("fc.", "linear."): tensor for name, tensor in s.items()},
}


def repacked(path: Path, compression: int = zipfile.ZIP_STORED, more: int = 0) -> Path:
    """The same archive with its files compressed, or with an entry of so many bytes more."""
    with zipfile.ZipFile(path) as archive:
        files = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if more:
            archive.writestr("more", bytes(more), zipfile.ZIP_DEFLATED)
    return path


class AsLongAsYouLike:
    def __reduce__(self) -> Any:
        return bytearray, (1 << 20,)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: repacked(saved({"global_step": 1}, path), zipfile.ZIP_DEFLATED),
        lambda path: repacked(saved({"global_step": 1}, path), more=1 << 24),
        lambda path: saved({"global_step": AsLongAsYouLike()}, path),
        lambda path: saved({"global_step": AsLongAsYouLike()}, path, _use_new_zipfile_serialization=False),
    ],
)
def test_a_file_that_would_unpack_to_more_is_not_opened(make: Callable[[Path], Path], tmp_path: Path) -> None:
    path = make(tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth would unpack to more than its own \d+ bytes"):
        load_weights(small(), path)
    content = path.read_bytes()
    path.write_bytes(hashlib.sha256(content).digest() + content)
    assert read_checkpoint(path) is None


def test_an_archive_that_is_repacked_and_not_compressed_is_read(tmp_path: Path) -> None:
    load_weights(small(), repacked(saved(small().state_dict(), tmp_path / "w.pth")))


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_others_wrap_their_weights_in(wrap: Callable[[State], Any], zipped: bool, tmp_path: Path) -> None:
    net, again = small("B"), resnet_cifar(14, "B", width=4)
    export_weights(net, tmp_path / "plain.pth", "torchvision")
    content = wrap(torch.load(tmp_path / "plain.pth"))
    load_weights(again, saved(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped))
    assert_same(again.state_dict(), net.state_dict())


def test_old_files_count_no_batches_and_half_precision_is_converted(tmp_path: Path) -> None:
    state = {name: t.half() for name, t in small().state_dict().items() if "num_batches_tracked" not in name}
    net = small()
    load_weights(net, saved(state, tmp_path / "old.pth"))
    loaded = {name: tensor for name, tensor in net.state_dict().items() if name in state}
    assert_same(loaded, {name: tensor.float() for name, tensor in state.items()})
    assert net.get_buffer("stem.1.num_batches_tracked") == 0


@pytest.mark.parametrize(
    ("make", "remark"),
    [
        (lambda: resnet_cifar(8, "none", width=4), r"beware: this net has no shortcuts.*\(model.shortcut=A\)"),
        (
            lambda: resnet_imagenet(50, "B", width=4),
            r"beware: .* strides in the 1x1 .* torchvision's in the 3x3 \(model.stride_in=3x3\)",
        ),
    ],
)
def test_what_the_names_leave_open_is_told_on_import_and_refused_on_export(
    make: Callable[[], nn.Module], remark: str, tmp_path: Path
) -> None:
    net = make()
    state = {weights.renamed(name, weights.TO_TORCHVISIONS): tensor for name, tensor in net.state_dict().items()}
    assert re.search(remark, load_weights(net, saved(state, tmp_path / "w.pth")))
    with pytest.raises(UserError, match=remark.removeprefix("beware: ") + "; choose safetensors or onnx"):
        export_weights(net, tmp_path / "out.pth", "torchvision")


def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}


@pytest.mark.slow
def test_alexnet_and_vgg_have_torchvisions_names(tmp_path: Path) -> None:
    for make in (partial(alexnet, num_classes=3, stem="cifar"), partial(vgg, 11, batch_norm=True, stem="cifar")):
        net, again = unset(make), unset(make)
        for name, tensor in net.state_dict().items():
            tensor.copy_(torch.rand_like(tensor) if tensor.is_floating_point() else torch.tensor(len(name)))
        export_weights(net, tmp_path / "net.pth", "torchvision")
        assert load_weights(again, tmp_path / "net.pth").endswith("has the net's own names")
        assert_same(again.state_dict(), net.state_dict())
        (tmp_path / "net.pth").unlink()
    with torch.device("meta"):
        assert shapes(alexnet()) == shapes(torchvision.models.alexnet())
        assert shapes(vgg(11, batch_norm=True)) == shapes(torchvision.models.vgg11_bn())
        assert shapes(vgg(16)) == shapes(torchvision.models.vgg16())


def test_googlenets_auxiliary_classifiers_are_left_out_where_the_net_has_none(tmp_path: Path) -> None:
    theirs = perturbed(torchvision.models.googlenet(num_classes=3, aux_logits=True, init_weights=False))
    path = saved(theirs.state_dict(), tmp_path / "theirs.pth")
    without, whole = (unset(partial(googlenet, auxiliary, num_classes=3)) for auxiliary in (False, True))
    assert load_weights(without, path).endswith(
        "aux1 and aux2 are left out, because the net has no auxiliary classifiers"
    )
    assert load_weights(whole, path).endswith("has the net's own names")
    assert_same(whole.state_dict(), theirs.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(without(images), theirs(images), rtol=0, atol=0)


def changed(**changes: Tensor | None) -> Callable[[State], State]:
    def change(state: State) -> State:
        state = state | {name.replace("__", "."): tensor for name, tensor in changes.items()}  # type: ignore[operator]
        return {name: tensor for name, tensor in state.items() if tensor is not None}

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            changed(fc__weight=torch.zeros(1000, 16), fc__bias=torch.zeros(1000)),
            r"the file has 1000 classes, the net 10 \(choose data with 1000 classes or, to train it on, "
            r"weights_head=new\): fc.weight has shape \(1000, 16\), the net's \(10, 16\)",
        ),
        (
            changed(conv1__weight=torch.zeros(4, 1, 3, 3)),
            r"conv1.weight has shape \(4, 1, 3, 3\), the net's \(4, 3, 3, 3\)",
        ),
        (
            lambda s: {k: t for k, t in s.items() if "layer3.1.bn" not in k} | {"layer3.2.x": s["fc.bias"]},
            r"missing layer3.1.bn1.weight, layer3.1.bn1.bias, layer3.1.bn1.running_mean and 5 more; "
            "unexpected layer3.2.x$",
        ),
        (lambda s: s | {"linear.bias": s["fc.bias"]}, "has fc.bias under two names"),
        (changed(fc__bias=torch.tensor([0.0] * 9 + [float("nan")])), "fc.bias has values that are not finite"),
        (
            changed(fc__bias=torch.full((10,), 1e300, dtype=torch.float64)),
            "fc.bias has values that are not finite in .*float32",
        ),
        (changed(fc__bias=torch.zeros(10, dtype=torch.int8)), "fc.bias must be dense torch.float32 .* torch.int8"),
        (
            changed(fc__bias=torch.zeros(10).to_sparse()),
            "fc.bias must be dense .* got torch.float32, torch.sparse",
        ),
        (changed(fc__bias=torch.zeros(10, device="meta")), "fc.bias must be .* on the CPU, got .* on meta"),
        (lambda s: s | {"fc.bias": [0.0] * 10}, "fc.bias must be a tensor, got list"),
        (lambda s: s | {3: s["fc.bias"]}, "a tensor's name must be text, got 3"),
        (lambda s: s | {"\x1b[2J": s["fc.bias"]}, r"a tensor's name must be text, got '\\x1b"),
        (lambda s: {}, "holds no named tensors"),
        (lambda s: [1, 2], "holds no named tensors"),
        (lambda s: {"state_dict": {}}, "holds no named tensors"),
        (lambda s: {"epoch": 3}, "epoch must be a tensor, got int"),
    ],
)
def test_a_file_that_does_not_fit_says_where_and_changes_nothing(
    change: Callable[[State], Any], message: str, tmp_path: Path
) -> None:
    net = small()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    export_weights(net, tmp_path / "good.pth", "torchvision")
    path = saved(change(torch.load(tmp_path / "good.pth")), tmp_path / "bad.pth")
    with pytest.raises(UserError, match=f"{path}.*{message}"):
        load_weights(net, path)
    assert_same(net.state_dict(), before)


def test_a_dict_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    with pytest.raises(UserError, match="model must be a tensor, got dict"):
        load_weights(small(), saved(endless, tmp_path / "endless.pth"))


class Hostile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return open, (str(self.trace), "w")


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    trace, path = tmp_path / "executed", tmp_path / "hostile.pth"
    hostile = {"conv1.weight": Hostile(trace)}
    refusal = r"hostile.pth cannot be read: it holds io.open; save net.state_dict\(\)"
    for zipped in (True, False):
        with pytest.raises(UserError, match=refusal):
            load_weights(small(), saved(hostile, path, _use_new_zipfile_serialization=zipped))
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps(hostile, protocol))
        with pytest.raises(UserError, match=r"hostile.pth cannot be read"):
            load_weights(small(), path)
    path.rename(tmp_path / "hostile.safetensors")
    with pytest.raises(UserError, match=r"hostile.safetensors cannot be read"):
        load_weights(small(), tmp_path / "hostile.safetensors")
    with pytest.raises(UserError, match=r"it holds resnet_lab|it holds torch.nn"):
        load_weights(small(), saved(small(), tmp_path / "net.pth"))
    assert not trace.exists()
    with path.open("wb") as file:  # the file does what the test believes
        pickle.dump(hostile, file)
    with path.open("rb") as file:
        pickle.load(file)["conv1.weight"].close()
    assert trace.exists()


@pytest.mark.parametrize("name", ["net.pth", "legacy.pth", "net.safetensors"])
@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-100], lambda raw: raw[:40], lambda raw: b"", lambda raw: b"<html>\n" * 99]
)
def test_a_damaged_file_is_refused(damage: Callable[[bytes], bytes], name: str, tmp_path: Path) -> None:
    net, path = small(), tmp_path / name
    if path.suffix == ".safetensors":
        pytest.importorskip("safetensors")
        export_weights(net, path, "safetensors")
    else:
        saved(net.state_dict(), path, _use_new_zipfile_serialization=name == "net.pth")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path} cannot be read: it is truncated, damaged or of another kind"):
        load_weights(net, path)


def test_no_file_and_no_library_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(UserError, match=f"weights must be a file, and {path} is not$"):
            load_weights(small(), path)
    with pytest.raises(ValueError, match="padding must be one of both, end; got 'left'"):
        load_weights(small(), tmp_path, "left")
    for name in ("safetensors.torch", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "w.safetensors").touch()
    with pytest.raises(UserError, match=r"w.safetensors needs safetensors: pip install 'resnet-lab\[export\]'"):
        load_weights(small(), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"safetensors needs safetensors: pip install 'resnet-lab\[export\]'"):
        export_weights(small(), tmp_path / "out.safetensors", "safetensors")
    with pytest.raises(UserError, match=r"onnx needs onnx(script)?: pip install 'resnet-lab\[export\]'"):
        export_weights(small(), tmp_path / "out.onnx", "onnx", (3, 8, 8))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: highway(8, width=4), "torchvision has no such net; choose safetensors or onnx"),
        (lambda: inception("naive", width=4, modules=1), "torchvision has no such net"),
        (lambda: preact_resnet_cifar(8, "A", width=4), "torchvision has no such net"),
        (lambda: resnet_imagenet(18, "A", width=4), "torchvision's net has shortcuts of option B, .* A or C"),
        (lambda: resnet_imagenet(18, "C", width=4), "torchvision's net has shortcuts of option B, .* A or C"),
        (lambda: googlenet(norm="none", auxiliary=False), "torchvision's GoogLeNet has batch normalization"),
        (lambda: resnet_cifar(8, "A", width=5), "padding must be end: 5 channels, of an odd width, .* got both"),
    ],
)
def test_nets_that_have_no_torchvision_form(make: Callable[[], nn.Module], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        export_weights(make(), tmp_path / "net.pth", "torchvision")
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, there = small(), tmp_path / "there.pth"
    there.write_text("mine")
    for path, form, message in (
        (there, "torchvision", f"output: {there} exists; choose another or remove it"),
        (
            tmp_path / "a.onnx",
            "torchvision",
            "output must end in .pth or .pt or .th for torchvision, got .*a.onnx",
        ),
        (tmp_path / "a.pth", "safetensors", "output must end in .safetensors for safetensors"),
        (tmp_path / "no" / "a.pth", "torchvision", f"output: there is no folder {tmp_path}/no"),
    ):
        with pytest.raises(UserError, match=message):
            export_weights(net, path, form)
    with pytest.raises(ValueError, match="format must be one of torchvision, safetensors, onnx; got 'keras'"):
        export_weights(net, tmp_path / "a.keras", "keras")
    with pytest.raises(ValueError, match=r"shape must be an image's \(C, H, W\) for onnx, got None"):
        export_weights(net, tmp_path / "a.onnx", "onnx")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resnet_lab.files.sync", full)
    with pytest.raises(UserError, match=r"output: .*a.pth cannot be written: No space left on device"):
        export_weights(net, tmp_path / "a.pth", "torchvision")
    assert list(tmp_path.iterdir()) == [there]
    assert there.read_text() == "mine"


def test_onnx_comes_to_the_nets_logits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net = perturbed(resnet_cifar(8, "A", width=4)).train()
    path = tmp_path / "net.onnx"
    export_weights(net, path, "onnx", (3, 8, 8))
    assert net.training
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == [path]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [(node.name, node.shape[1:]) for node in session.get_inputs()] == [("images", [3, 8, 8])]
    for batch_size in (1, 2, 5):
        images = torch.randn(batch_size, 3, 8, 8)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), net.eval()(images).detach(), rtol=1e-4, atol=1e-4)


def test_onnx_of_other_images_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    with pytest.raises(UserError, match=r"Sequential does not take images of 1x8x8 .* 3 channels"):
        export_weights(small(), tmp_path / "net.onnx", "onnx", (1, 8, 8))
    assert list(tmp_path.iterdir()) == []


def test_onnx_that_differs_is_refused() -> None:
    net = small()

    class Session:
        def __init__(self, wrong: float) -> None:
            self.wrong = wrong

        def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
            return [net(torch.from_numpy(feed["images"])).numpy() + self.wrong]

    onnx.check_logits(net, Session(0.0), (3, 8, 8))
    for wrong in (0.01, float("nan")):
        with pytest.raises(UserError, match=r"ONNX Runtime's logits for 1 random images are .* from the net's"):
            onnx.check_logits(net, Session(wrong), (3, 8, 8))


def exported(*overrides: str) -> str:
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("export", list(overrides))
    return export(resolved(cfg, "export"))


def test_a_runs_weights_are_exported_and_read_again(tiny: Tiny, tmp_path: Path) -> None:
    run, config = tiny("model=cifar_resnet")
    assert execute(run, config) == 0
    out = [f"{tmp_path}/{name}" for name in ("run.pth", "file.pth", "again.pth")]
    said = exported(f"run={run.directory}", f"output={out[0]}")
    assert said == (
        f"the run is completed; weights of iteration 6 of 6 in {run.checkpoint_path}\n"
        f"{out[0]} has them as torchvision"
    )
    exported(f"weights={run.checkpoint_path}", f"output={out[1]}", *FOREIGN_NET)
    exported(f"weights={out[0]}", f"output={out[2]}", *FOREIGN_NET)
    assert Path(out[0]).read_bytes() == Path(out[1]).read_bytes() == Path(out[2]).read_bytes()
    stored = torch.load(out[0])["conv1.weight"]
    net = resnet_cifar(8, "A", width=4)
    load_weights(net, run.checkpoint_path)
    assert torch.equal(net.get_parameter("stem.0.weight"), stored)

    with pytest.raises(UserError, match="the file has 10 classes, the net 7"):
        exported(f"weights={out[0]}", f"output={tmp_path}/x.pth", *FOREIGN_NET, "data.num_classes=7")
    run.update(status="interrupted")
    run.checkpoint_path.write_bytes(run.checkpoint_path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"last.ckpt cannot be read"):
        load_weights(net, run.checkpoint_path)
    said = exported(f"run={run.directory}", f"output={tmp_path}/before.pth")
    before = run.checkpoint_path.with_name("previous-last.ckpt")
    assert said.startswith(f"the run is interrupted; weights of iteration 3 of 6 in {before}\n")
    record = run.record()
    run.update(config=record["config"] | {"seed": 5})
    with pytest.raises(UserError, match=r"previous-last.ckpt does not belong to the config in .*record.json"):
        exported(f"run={run.directory}", f"output={tmp_path}/x.pth")
    for path in run.checkpoint_path.parent.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"last.ckpt is missing or damaged, and so is the one before it"):
        exported(f"run={run.directory}", f"output={tmp_path}/x.pth")
    run.update(status="failed")
    with pytest.raises(UserError, match=r"run must be the folder of a completed or interrupted run; .*: failed"):
        exported(f"run={run.directory}", f"output={tmp_path}/x.pth")
    assert not (tmp_path / "x.pth").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "run=FOLDER or weights=FILE must be given, one of them alone"),
        (["run=a", "weights=b"], "run=FOLDER or weights=FILE must be given, one of them alone"),
        (["run=a"], "run must be the folder of a completed or interrupted run; a: missing"),
        (["run=3"], "run must be a path, got 3"),
        (["run=a", "model=vgg11"], "model goes with weights=FILE; a run has its own"),
        (["weights=a", "data=digits"], "model must be given with weights=FILE, the one that the file is for"),
        (["weights=a", "model=vgg11"], "data must be given with weights=FILE"),
        (["weights=nowhere.pth", *FOREIGN_NET], "weights must be a file, and nowhere.pth is not"),
        (
            ["weights=a", *FOREIGN_NET, "format=keras"],
            "format must be one of torchvision, safetensors, onnx; got 'keras'",
        ),
        (["run=a", "+weight=b"], "weight is not a key of the config; did you mean weights"),
        (["run=a", "~output"], "output is missing from the config"),
        (["weights=a", *FOREIGN_NET, "output=3"], "output must be a path, got 3"),
        (["weights=a", *FOREIGN_NET, "model.depth=9"], r"model: depth must be 6n\+2 .* got 9"),
    ],
)
def test_what_the_command_refuses(
    overrides: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        exported("output=out.pth", *overrides)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_itself(resnet_lab: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    code = "import sys, resnet_lab.export; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    saved(small("A", depth=8).state_dict(), tmp_path / "net.pt")
    ended = resnet_lab("export", "weights=net.pt", "output=net.pth", *FOREIGN_NET)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "net.pt has the net's own names\nnet.pth has them as torchvision\n"
    ended = resnet_lab("export", "output=net.pth")
    assert ended.returncode == 1
    assert ended.stderr == "resnet-lab-export: run=FOLDER or weights=FILE must be given, one of them alone\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pt", "net.pth"]
