"""The start of a training run: given weights, and parts of the net that stay frozen."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from resnet_lab.checks import UserError, hint
from resnet_lab.models.backbone import backbone_of
from resnet_lab.models.structure import has_weights
from resnet_lab.runs.first_weights import NEW, checked_file
from resnet_lab.weights.files import load_weights


def start_from(net: nn.Module, config: dict[str, Any]) -> dict[str, Any]:
    """Load the weights that the frozen config names, if any, into the net, or the backbone of a task's network.

    Returns the fact for the record.

    Raises:
        UserError: they do not exist, do not match the config's checksum, or do not fit the net.
    """
    if config.get("weights") is None:
        return {}
    path = checked_file(config)
    note = load_weights(backbone_of(net), path, new_head=config["weights_head"] == NEW)
    return {"weights": {"file": str(path), "sha256": config["weights_sha256"], "note": note}}


def freeze(net: nn.Module, names: Sequence[str]) -> None:
    """Exclude the named parts of the net from training.

    They are put into evaluation mode, so that their running statistics stay, too; a Trainer keeps each module's
    mode.

    Raises:
        UserError: the net has no such part with weights, or nothing is left to train.
    """
    modules = dict(net.named_modules())
    for name in names:
        if name not in modules or not has_weights(modules[name]):
            parts = [part for part, module in net.named_children() if has_weights(module)]
            raise UserError(f"freeze: {name} is not a part of this net with weights; {hint(name, parts)}")
        modules[name].requires_grad_(False).eval()
    if not any(parameter.requires_grad for parameter in net.parameters()):
        raise UserError(f"freeze={list(names)} leaves nothing to train; leave out the head")
