"""Weights in and out: files of our nets, of torchvision's and of other people's, safetensors, and ONNX."""

import io
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import VGG, AlexNet, GoogLeNet

from resnet_lab.checks import UserError, check_choice, library
from resnet_lab.files import check_not_packed, write_atomically
from resnet_lab.models.backbone import OnBackbone
from resnet_lab.models.structure import heads
from resnet_lab.runs.sealed import unsealed
from resnet_lab.weights.names import (
    TO_OURS,
    TO_TORCHVISIONS,
    other_function,
    pads,
    remarks,
    renamed,
    reordered,
    shared_blocks,
)
from resnet_lab.weights.onnx import onnx_content

FORMATS = {"torchvision": (".pth", ".pt", ".th"), "safetensors": (".safetensors",), "onnx": (".onnx",)}
PADDINGS = ("both", "end")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.", "net.", "model.")


def load_weights(net: nn.Module, path: Path, padding: str = "both", new_head: bool = False) -> str:
    """Load a file's weights into the net, all or none; return a sentence on how the file was interpreted.

    Readable are checkpoints of our runs, safetensors, and whatever `torch.save` wrote from tensors and plain
    types. The names are the net's own or, for a ResNet, torchvision's (`conv1`, `layer1.0.downsample.0`, `fc`),
    which published CIFAR nets share, some with `linear` and `shortcut`. Published nets of option A put half of the
    zero channels before the others and half after them: `padding="both"` reorders the channels, so that the net
    computes the same function; `end` takes them as they are. Files with our own names are always taken as they
    are. With `new_head` the layers that score the classes keep the weights that the net has, and the file may be
    for other classes.

    Raises:
        UserError: the file cannot be read, holds anything but finite tensors, or does not fit the net.
        ValueError: the padding is unknown.
    """
    check_choice("padding", padding, PADDINGS)
    found = read_tensors(path)
    said = []
    if isinstance(net, GoogLeNet) and not net.aux_logits and any(name.startswith("aux") for name in found):
        found = {name: tensor for name, tensor in found.items() if not re.match(r"aux[12]\.", name)}
        said = ["aux1 and aux2 are left out, because the net has no auxiliary classifiers"]
    foreign = bool(shared_blocks(net)) and "conv1.weight" in found
    rules = TO_OURS if foreign else ()
    left_out = own_head(net, path) if new_head else set()
    weights = fitted(
        net, path, {k: t for k, t in found.items() if renamed(k, rules) not in left_out}, rules, left_out
    )
    if foreign:
        said += remarks(net, padding)
    if foreign and padding == "both":
        weights = reordered(net, weights)
    net.load_state_dict(weights, strict=not left_out)
    names = "torchvision's names" if foreign else "the net's own names"
    said += ["its head is left out, and the net has a new one"] if left_out else []
    return "; ".join([f"{path} has {names}", *said])


def export_weights(
    net: nn.Module, path: Path, format: str, shape: tuple[int, int, int] | None = None, padding: str = "both"
) -> None:
    """Write the net's weights to a new file, whole or not at all.

    `torchvision` is a state dict under torchvision's names, which torchvision's own classes load if the net has
    `stem=imagenet` and their width. The channels of a ResNet of option A are reordered for nets that pad on both
    sides, as published nets do and as `load_weights` expects; `padding="end"` leaves them as they are.
    `safetensors` has the net's own names. `onnx` is the net in evaluation mode, from `images` (N, *shape),
    float32, to `logits` (N, num_classes) for any N; it needs `shape`, an image's (C, H, W), and is written only
    if ONNX Runtime reproduces the net's logits on random images. The network of a task other than classification
    is written as a state dict under its own names, which are torchvision's for a detector.

    Raises:
        UserError: the file exists or cannot be written, a library is missing, the net cannot be written in this
            format, or ONNX Runtime disagrees.
        ValueError: the format or the padding is unknown, or `shape` is missing for `onnx`.
    """
    check_choice("format", format, FORMATS)
    check_choice("padding", padding, PADDINGS)
    check_output(path, format)
    if of_task := isinstance(net, OnBackbone):
        net = net.exported
        if format == "onnx":
            raise UserError("format=onnx is for nets that classify; choose torchvision or safetensors")
    if format == "onnx":
        content = onnx_content(net, shape)
    elif format == "safetensors":
        content = library("safetensors.torch", format).save(cpu_weights(net), {"format": "pt"})
    else:
        buffer = io.BytesIO()
        torch.save(cpu_weights(net) if of_task else torchvision_weights(net, padding), buffer)
        content = buffer.getvalue()
    write(path, content)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file by name, out of any wrapping dicts; nothing in the file is executed.

    Raises:
        UserError: the file cannot be read, or holds anything but tensors.
    """
    if not path.is_file():
        raise UserError(f"weights must be a file, and {path} is not")
    if path.suffix == ".onnx":
        raise UserError(
            f"{path}: ONNX can be written but not read; give a .safetensors file or one that torch.save wrote"
        )
    safe = library("safetensors.torch", path.name) if path.suffix == ".safetensors" else None
    try:
        content = unsealed(path)
        content = path.read_bytes() if content is None else content
        check_not_packed(path, content)
        with warnings.catch_warnings(action="ignore"):
            found = safe.load(content) if safe else torch.load(io.BytesIO(content), "cpu", weights_only=True)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Exception as error:  # a forged file may lead to any
        # not torch's own words, which advise executing what is in the file
        other = re.search(r"GLOBAL ([\w.]+)", str(error))
        cause = f"it holds {other[1]}" if other else f"it is truncated, damaged or of another kind ({error!r:.80})"
        raise UserError(f"{path} cannot be read: {cause}; save net.state_dict(), tensors only") from error
    return checked_tensors(path, unwrapped(found))


def unwrapped(content: Any) -> Any:
    lightning = isinstance(content, dict) and "pytorch-lightning_version" in content
    for _ in WRAPPERS:  # a dict can hold itself
        inner = [content[key] for key in WRAPPERS if isinstance(content, dict) and key in content]
        content = next((value for value in inner if isinstance(value, dict)), content)
    if lightning:  # the tallies of errors are tensors, too
        content = {key: value for key, value in content.items() if str(key).startswith(("net.", "model."))}
    return content


def checked_tensors(path: Path, content: Any) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} holds no named tensors")
    for key, value in content.items():
        if not isinstance(key, str) or not key.isprintable():
            raise UserError(f"{path}: a tensor's name must be text, got {key!r:.80}")
        if not isinstance(value, Tensor):
            raise UserError(f"{path}: {key} must be a tensor, got {type(value).__name__}")
    while prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in content)), ""):
        content = {key.removeprefix(prefix): value for key, value in content.items()}
    return dict(content)


def fitted(
    net: nn.Module,
    path: Path,
    found: Mapping[str, Tensor],
    rules: tuple[tuple[str, str], ...],
    left_out: Collection[str] = (),
) -> dict[str, Tensor]:
    """Convert the tensors to the net's names, by the rules, and to its types; all but those left out must be
    there.

    Raises:
        UserError: a tensor is missing, unknown, there twice or of another shape.
    """
    own: dict[str, Tensor] = {name: tensor for name, tensor in net.state_dict().items() if name not in left_out}
    file_names = {renamed(key, rules): key for key in found}
    if len(file_names) < len(found):
        twice = min(set(found) - set(file_names.values()))
        raise UserError(f"{path} has {twice} under two names")
    counters = [key for key in own if key.endswith(".num_batches_tracked") and key not in file_names]
    present = {*file_names, *counters}
    absent = [renamed(key, TO_TORCHVISIONS if rules else ()) for key in own if key not in present]
    problems = listed("missing", absent)
    problems += listed("unexpected", [key for name, key in file_names.items() if name not in own])
    problems += listed("", misshapen(net, file_names, found, alone=not problems), "; ")
    if problems:
        raise UserError(f"{path} does not fit the net: {'; '.join(problems)}")
    weights = {name: converted(path, key, found[key], own[name]) for name, key in file_names.items()}
    return weights | {key: torch.zeros_like(own[key]) for key in counters}  # old files do not count batches


def misshapen(
    net: nn.Module, file_names: Mapping[str, str], found: Mapping[str, Tensor], alone: bool
) -> list[str]:
    """The tensors with other shapes than the net's, in words; a wrong number of classes comes first, with
    a remedy if it is the only problem (`alone`)."""
    own = net.state_dict()
    head = own_names(net, heads(net))
    classes, others = [], []
    for name, key in file_names.items():
        if name not in own or found[key].shape == own[name].shape:
            continue
        theirs, ours = found[key].shape, own[name].shape
        difference = f"{key} has shape {tuple(theirs)}, the net's {tuple(ours)}"
        if name in head and theirs[1:] == ours[1:]:
            classes.append((theirs[0], ours[0], difference))
        else:
            others.append(difference)
    if classes:
        new = " or, to train it on, weights_head=new" if alone and not others else ""
        they, we, difference = classes[0]
        remedy = f"choose data with {they} classes{new}"
        return [f"the file has {they} classes, the net {we} ({remedy}): {difference}", *others]
    return others


def own_head(net: nn.Module, path: Path) -> set[str]:
    """The net's names for the tensors of a file that a new head leaves out.

    Raises:
        UserError: the net does not end in a linear layer.
    """
    found = own_names(net, heads(net))
    if not found:
        raise UserError(
            f"weights_head=new needs a net with a linear layer for its head, and {path} is for another"
        )
    return found


def own_names(net: nn.Module, modules: Collection[str]) -> set[str]:
    return {name for name in net.state_dict() if name.rpartition(".")[0] in modules}


def converted(path: Path, name: str, tensor: Tensor, like: Tensor) -> Tensor:
    numbers = tensor.layout is torch.strided and tensor.device.type == "cpu"
    floats = tensor.is_floating_point() and like.is_floating_point()
    if not numbers or (tensor.dtype != like.dtype and not floats):
        kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device.type}"
        raise UserError(f"{path}: {name} must be dense {like.dtype} on the CPU, got {kind}")
    tensor = tensor.detach().to(like.dtype)
    if not tensor.isfinite().all():
        raise UserError(f"{path}: {name} has values that are not finite in {like.dtype}")
    return tensor


def listed(what: str, names: list[str], between: str = ", ") -> list[str]:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{what} {between.join(names[:3])}{more}".strip()] if names else []


def cpu_weights(net: nn.Module) -> dict[str, Tensor]:
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in net.state_dict().items()
    }


def torchvision_weights(net: nn.Module, padding: str) -> dict[str, Tensor]:
    weights = cpu_weights(net)
    instead = "choose safetensors or onnx"
    if isinstance(net, GoogLeNet) and not any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules()):
        raise UserError(f"torchvision's GoogLeNet has batch normalization, this one none; {instead}")
    if isinstance(net, VGG | AlexNet | GoogLeNet):
        return weights
    own = list(shared_blocks(net).values())
    if not own:
        raise UserError(f"torchvision has no such net; {instead}")
    if other := other_function(net):
        raise UserError(f"{other}; {instead}")
    if hasattr(net, "stage4") and (pads(net) or isinstance(own[1].shortcut, nn.Sequential)):
        raise UserError(f"torchvision's net has shortcuts of option B, this one of A or C; {instead}")
    if padding == "both":
        weights = reordered(net, weights, back=True)
    return {renamed(name, TO_TORCHVISIONS): tensor for name, tensor in weights.items()}


def check_output(path: Path, format: str) -> None:
    if path.suffix not in FORMATS[format]:
        raise UserError(f"output must end in {' or '.join(FORMATS[format])} for {format}, got {path}")
    if path.exists():
        raise UserError(f"output: {path} exists; choose another or remove it")
    if not path.parent.is_dir():
        raise UserError(f"output: there is no folder {path.parent}")


def write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise UserError(f"output: {path} cannot be written: {error.strerror}") from error
