"""Drawings of nets: what is in the SVG is what is in the net."""

import re
import subprocess
from collections.abc import Callable
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from resnet_lab.models import googlenet, highway, preact_resnet_cifar, resnet_cifar, resnet_imagenet, vgg
from resnet_lab.models.drawing import drawing, parts

Call = Callable[..., subprocess.CompletedProcess[str]]
SVG = "{http://www.w3.org/2000/svg}"


def test_figure_3_from_the_command_line(resnet_lab: Call) -> None:
    zeros = ("model=cifar_resnet", "model.initialization=zero_last", "data=synthetic", "format=svg")
    assert resnet_lab("info", *zeros).stdout.startswith("<svg")
    ended = resnet_lab("info", "model=imagenet_resnet", "data=synthetic", "data.image_size=224", "format=svg")
    assert ended.returncode == 0, ended.stderr
    root = ElementTree.fromstring(ended.stdout)
    words = [element.text for element in root.iter(f"{SVG}text")]
    assert [word for word in words if word and "parameters" in word] == [
        "plain-34: 21,115,978 parameters",
        "ResNet-34, option B: 21,289,802 parameters",
    ]
    assert words.count("7x7 conv, 64, /2") == words.count("max pool, /2") == 2
    assert words.count("3x3 conv, 512, /2") == 2
    assert words.count("3x3 conv, 512") == 10
    arcs = [element for element in root.iter(f"{SVG}path") if element.get("class") == "shortcut"]
    assert len(arcs) == 16
    # the three that change the dimensions
    assert sum("stroke-dasharray" in arc.attrib for arc in arcs) == 3


@pytest.mark.parametrize("option", ["A", "B", "C"])
def test_a_plain_net_has_no_shortcuts_and_each_option_its_own(option: str) -> None:
    boxes, arcs = parts(resnet_cifar(14, option), (3, 32, 32))
    plain, none = parts(resnet_cifar(14, "none"), (3, 32, 32))
    assert [box.label for box in boxes] == [box.label for box in plain]
    assert none == []
    assert [arc.dotted for arc in arcs] == {
        "A": [False, False, True, False, True, False],
        "B": [False, False, True, False, True, False],
        "C": [True] * 6,
    }[option]
    assert [(arc.first, arc.last) for arc in arcs] == [(k, k + 1) for k in range(1, 13, 2)]
    assert [box.size for box in boxes][::4] == [(32, 32), (32, 32), (16, 16), (8, 8)]


def test_bottlenecks_and_other_families_are_drawn() -> None:
    with torch.random.fork_rng():
        nets: dict[str, tuple[nn.Module, int, str]] = {
            "bottlenecks": (resnet_imagenet(50, "B"), 64, "1x1 conv, 256"),
            "pre-activation": (preact_resnet_cifar(8, "A"), 32, "3x3 conv, 64"),
            "VGG": (vgg(11), 64, "fc 4096"),
            "GoogLeNet": (googlenet(), 64, "Inception"),
            "highway": (highway(7), 32, "fc 10"),
        }
    for name, (net, side, label) in nets.items():
        text = drawing({name: net}, (3, side, side))
        labels = [element.text for element in ElementTree.fromstring(text).iter(f"{SVG}text")]
        assert label in labels, (name, labels)
    arcs = parts(nets["bottlenecks"][0], (3, 64, 64))[1]
    assert len(arcs) == 16
    assert all(arc.last - arc.first == 2 for arc in arcs)


def test_names_are_text_and_no_markup() -> None:
    text = drawing({"<script>": nn.Sequential(nn.Flatten(), nn.Linear(12, 2))}, (3, 2, 2))
    assert "<script>" not in text
    assert re.search("&lt;script&gt;: 26 parameters", text)
