"""`resnet-lab-info`: parameters, multiply-adds and activation memory of a network, its stages and its layers."""

import json
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from resnet_lab.checks import UserError
from resnet_lab.config.command_line import run_command
from resnet_lab.config.values import FOLDER, check
from resnet_lab.runs.find import run_at
from resnet_lab.runs.swept import title
from resnet_lab.text import columns

# The functions whose shortcut can be none.
PLAIN_TOO = ("resnet_lab.models.resnet_cifar", "resnet_lab.models.resnet_imagenet")

Cells = tuple[str, ...]


def perform(config: dict[str, Any]) -> None:
    """Print the description of the config's network, in the format that it asks for."""
    if config["format"] == "svg":
        print(draw(*subject(config)))
        return
    facts = describe(*subject(config))
    print(json.dumps(facts, indent=2) if config["format"] == "json" else show(facts, config["detail"]))


def subject(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The blocks of net and data: those of the run that is named, or the config's own.

    Raises:
        UserError: there is no such run, or a net is named beside it.
    """
    if config["run"] is None:
        return config["model"], config["data"]
    check("run", config["run"], FOLDER)
    given = [word for word in HydraConfig.get().overrides.task if word.lstrip("+~").startswith(("model", "data"))]
    if given:
        raise UserError(f"{given[0]} does not go with run={config['run']}, which has its own; leave one out")
    run = run_at(Path(config["run"]))
    found = run.record().get("config")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), dict) for key in ("model", "data")):
        raise UserError(f"{run.record_path} is damaged: it has no net; run it again with force=true")
    return found["model"], found["data"]


def describe(model: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Build the network for the dataset's images, which are not read, and count."""
    from resnet_lab.config.build import build  # torch: not needed for --help and --cfg
    from resnet_lab.models.count import count_activation_bytes, count_layers, count_parameters, count_stages

    images = build("data", data)
    net = build("model", model, in_channels=images.in_channels, num_classes=images.num_classes)
    shape = images.shape
    layers = count_layers(net, shape)
    return {
        "input_shape": shape,
        "parameters": count_parameters(net),
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
        "activation_bytes": count_activation_bytes(net, shape),
        "stages": [stage._asdict() for stage in count_stages(net, layers)],
        "layers": [layer._asdict() for layer in layers],
    }


def draw(model: dict[str, Any], data: dict[str, Any]) -> str:
    """The network as SVG, and beside a residual one its plain counterpart, as in Figure 3."""
    from resnet_lab.config.build import build
    from resnet_lab.models.drawing import drawing

    images = build("data", data)
    residual = str(model.get("_target_")) in PLAIN_TOO and model.get("shortcut") != "none"
    plain = {"shortcut": "none"} | ({"initialization": "he"} if "initialization" in model else {})
    columns = [model | plain, model] if residual else [model]
    facts = {"in_channels": images.in_channels, "num_classes": images.num_classes}
    nets = {title({"model": block}): build("model", block, **facts) for block in columns}
    return drawing(nets, images.shape)


def show(facts: dict[str, Any], detail: str) -> str:
    """The stages, with `detail` layers the layers, too, and what was counted."""
    image = "x".join(map(str, facts["input_shape"]))
    total = ("total", "", f"{facts['parameters']:,}", f"{facts['multiply_adds']:,}", "")
    parts = [
        table(("stage", "output", "parameters", "multiply-adds", "structure"), stage_rows(facts), total),
        f"activations kept for the backward pass: {facts['activation_bytes'] / 1e6:.1f} MB per image (float32)",
        "multiply-adds are those of convolutions and linear layers, projections of shortcuts included, for one "
        f"image of {image}; batch normalization, ReLU, pooling and additions are not counted",
    ]
    if detail == "layers":
        layers = table(("layer", "output", "parameters", "multiply-adds", "kind"), layer_rows(facts), total)
        parts.insert(1, f"\n{layers}\n")
    return "\n".join(parts)


def stage_rows(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            stage["name"],
            "x".join(map(str, stage["output_size"])) if stage["output_size"] else "training only",
            f"{stage['parameters']:,}",
            f"{stage['multiply_adds']:,}",
            stage["structure"],
        )
        for stage in facts["stages"]
    ]


def layer_rows(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            layer["name"],
            "x".join(map(str, layer["output_shape"])),
            f"{layer['parameters']:,}",
            f"{layer['multiply_adds']:,}",
            layer["kind"],
        )
        for layer in facts["layers"]
    ]


def table(head: Cells, rows: list[Cells], total: Cells) -> str:
    return "\n".join(columns([head, *rows, total], right=(2, 3)))


def main() -> None:
    run_command(perform, "info")


if __name__ == "__main__":
    main()
