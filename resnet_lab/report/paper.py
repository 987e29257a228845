"""The paper's numbers, for runs of the paper's recipe."""

from resnet_lab.report.results import Group

# Table 6, test error in percent on CIFAR-10; ResNet-110's is the best of five runs, their mean is 6.61.
TABLE_6 = {20: 8.75, 32: 7.51, 44: 7.17, 56: 6.97, 110: 6.43, 1202: 7.93}


def paper_test_error(group: Group) -> float | None:
    """What the paper has for a group's net, where its data, width and number of iterations are the paper's."""
    config = group.results[0].config
    if not config:
        return None
    model, data = config["model"], config["data"]
    ours = (data["_target_"].rpartition(".")[2], model.get("width"), config["iterations"], group.shortcut)
    return TABLE_6.get(group.depth) if ours == ("CIFAR10", 16, 64000, "A") else None
