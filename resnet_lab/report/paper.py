"""The paper's numbers, for runs of the paper's recipe."""

from typing import Any

from resnet_lab.report.results import Group

# Table 6, test error in percent on CIFAR-10; ResNet-110's is the best of five runs, their mean is 6.61.
TABLE_6 = {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 110: 6.43, 1202: 7.93}

# Tables 2 and 3, errors in percent on the ImageNet validation images by ten crops: top-1 and top-5.
TABLE_3: dict[tuple[int, str], tuple[float, float | None]] = {
    (18, "none"): (27.94, None),
    (18, "A"): (27.88, None),
    (34, "none"): (28.54, 10.02),
    (34, "A"): (25.03, 7.76),
    (34, "B"): (24.52, 7.46),
    (34, "C"): (24.19, 7.40),
    (50, "B"): (22.85, 6.71),
    (101, "B"): (21.75, 6.05),
    (152, "B"): (21.43, 5.71),
}
# Table 4, fully convolutional at several scales.
TABLE_4: dict[tuple[int, str], tuple[float, float | None]] = {
    (34, "B"): (21.84, 5.71),
    (34, "C"): (21.53, 5.60),
    (50, "B"): (20.74, 5.25),
    (101, "B"): (19.87, 4.60),
    (152, "B"): (19.38, 4.49),
}

RECIPE: dict[str, dict[str, Any]] = {
    "model": {"shortcut": "A", "width": 16},
    "data": {
        "_target_": "resnet_lab.data.CIFAR10",
        "batch_size": 128,
        "holdout": 0,
        "crop_padding": 4,
        "flip": True,
    },
    "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0001},
}


IMAGENET_RECIPE: dict[str, dict[str, Any]] = {
    "model": {
        "_target_": "resnet_lab.models.resnet_imagenet",
        "width": 64,
        "stride_in": "1x1",
        "stem": "imagenet",
    },
    "data": {
        "_target_": "resnet_lab.data.ImageNet",
        "batch_size": 256,
        "holdout": 0,
        "image_size": 224,
        "shorter_side": [256, 480],
        "flip": True,
        "colour": 0.1,
    },
    "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0001},
}


def paper_test_error(group: Group) -> float | None:
    """What the paper has for a group's net, if the group was trained by the paper's recipe."""
    config = group.results[0].config
    if not config or config.get("iterations") != 64000:
        return None
    return TABLE_6.get(group.depth) if follows(config, RECIPE) else None


def paper_errors(group: Group, protocol: dict[str, Any]) -> tuple[float, float | None] | None:
    """The paper's top-1 and top-5 errors of a net by the same protocol, if it was trained by its recipe."""
    tables: dict[str, tuple[dict[str, Any], dict[tuple[int, str], tuple[float, float | None]]]] = {
        "ten_crop": ({"shorter_side": 256, "crop": 224}, TABLE_3),
        "multi_scale": ({"shorter_sides": [224, 256, 384, 480, 640]}, TABLE_4),
    }
    settings, table = tables.get(protocol["name"], ({}, {}))
    if any(protocol.get(key) != value for key, value in settings.items()):
        return None
    result = group.results[0]
    ours = result.config and result.config.get("iterations") == 600000 and follows(result.config, IMAGENET_RECIPE)
    whole = (result.record.get("data") or {}).get("test_images") == 50000
    return table.get((group.depth, group.shortcut)) if ours and whole else None


def follows(config: dict[str, Any], recipe: dict[str, dict[str, Any]]) -> bool:
    blocks = {name: config.get(name) or {} for name in recipe}
    return all(blocks[name].get(key) == value for name, keys in recipe.items() for key, value in keys.items())
