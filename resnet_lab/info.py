"""`resnet-lab-info`: parameters, multiply-adds and the shape of each layer."""

import json
import sys
from typing import Any

import hydra
from omegaconf import DictConfig

from resnet_lab.checks import UserError, check_choice
from resnet_lab.compose import CONF, check_keys, register_resolvers, to_plain


@hydra.main(version_base="1.3", config_path=CONF, config_name="info")
def _task(cfg: DictConfig) -> None:
    try:
        check_keys(cfg, "info")
        check_choice("format", cfg.format, ("text", "json"))
        print(show(describe(to_plain(cfg.model), to_plain(cfg.data)), cfg.format))
    except (UserError, ValueError) as error:
        sys.exit(f"resnet-lab-info: {error}")


def describe(model: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Build the network for the dataset's images, which are not read, and count."""
    from resnet_lab.build import build  # torch: not needed for --help and --cfg
    from resnet_lab.count import count_layers, count_parameters

    images = build("data", data)
    net = build("model", model, in_channels=images.in_channels, num_classes=images.num_classes)
    shape = (images.in_channels, images.image_size, images.image_size)
    layers = count_layers(net, shape)
    return {
        "input_shape": shape,
        "parameters": count_parameters(net),
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
        "layers": [layer._asdict() for layer in layers],
    }


def show(facts: dict[str, Any], form: str) -> str:
    if form == "json":
        return json.dumps(facts, indent=2)
    rows = [("layer", "kind", "output", "parameters", "multiply-adds")]
    rows += [
        (
            layer["name"],
            layer["kind"],
            "x".join(map(str, layer["output_shape"])),
            f"{layer['parameters']:,}",
            f"{layer['multiply_adds']:,}",
        )
        for layer in facts["layers"]
    ]
    rows.append(("total", "", "", f"{facts['parameters']:,}", f"{facts['multiply_adds']:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def main() -> None:
    register_resolvers()
    _task()


if __name__ == "__main__":
    main()
