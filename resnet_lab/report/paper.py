"""The paper's numbers, for runs of the paper's recipe."""

from typing import Any

from resnet_lab.report.results import Group

# Table 6, test error in percent on CIFAR-10; ResNet-110's is the best of five runs, their mean is 6.61.
TABLE_6 = {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 110: 6.43, 1202: 7.93}


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


def paper_test_error(group: Group) -> float | None:
    """What the paper has for a group's net, if the group was trained by the paper's recipe."""
    config = group.results[0].config
    if not config or config["iterations"] != 64000:
        return None
    same = all(config[block].get(key) == value for block, keys in RECIPE.items() for key, value in keys.items())
    return TABLE_6.get(group.depth) if same else None
