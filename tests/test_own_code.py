"""A worked example outside the package: a net, a dataset and an experiment of one's own, from files to report."""

import csv
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., subprocess.CompletedProcess[str]]

FILES = {
    "my_lab/__init__.py": "",
    "my_lab/nets.py": """\
from torch import nn


def tower(in_channels, num_classes, width=8, depth=2):
    if depth < 1:
        raise ValueError(f"depth must be 1 or more, got {depth}")
    layers = []
    for channels in [in_channels] + [width] * (depth - 1):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
""",
    "my_lab/data.py": """\
import torch

from resnet_lab.data import ImagesInMemory
from resnet_lab.data.batches import Images


class Stripes(ImagesInMemory):
    '''Stripes across, down or along the diagonal, with noise.'''

    in_channels, num_classes, image_size = 1, 3, 8

    def __init__(self, noise=0.2, **settings):
        super().__init__(**settings)
        self.noise = noise

    def load(self):
        return self.made(60, 0), self.made(30, 1)

    def made(self, count, seed):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % 3
        row, column = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
        patterns = torch.stack([row % 2, column % 2, (row + column) // 2 % 2]).float()
        images = patterns[labels] + self.noise * torch.rand(count, 8, 8, generator=generator)
        return Images((images / (1 + self.noise) * 255).byte()[:, None], labels)
""",
    "conf/model/tower.yaml": "_target_: my_lab.nets.tower\nwidth: 8 # channels\ndepth: 2 # convolutions\n",
    "conf/data/stripes.yaml": """\
_target_: my_lab.data.Stripes
root: unused
batch_size: 20
eval_batch_size: 30
holdout: 0
noise: 0.2
""",
    "conf/experiment/stripes.yaml": """\
# @package _global_
defaults:
  - override /model: tower
  - override /data: stripes
experiment_name: stripes
iterations: 30
runtime: {threads: 1}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      model.depth: 1,3
      seed: 0,1
""",
}
OWN = ("--trust-package", "my_lab", "--config-dir", "conf")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def test_from_ones_own_files_to_the_report(resnet_lab: Call, files: Path) -> None:
    shown = resnet_lab("info", *OWN, "model=tower", "data=stripes", "format=json")
    assert json.loads(shown.stdout)["parameters"] == (9 * 8 + 8) + (9 * 64 + 8) + 2 * 16 + 27
    ended = resnet_lab("train", *OWN, "experiment=stripes")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    study = files / "outputs/stripes"
    records = [json.loads(path.read_text()) for path in study.glob("*/seed*/record.json")]
    assert [record["status"] for record in records] == ["completed"] * 4
    assert all(record["test_error"] < 50 for record in records)
    assert {record["data"]["name"] for record in records} == {"Stripes"}
    assert all(len(record["trusted_packages"]["my_lab"]["sha256"]) == 64 for record in records)
    again = resnet_lab("train", *OWN, "experiment=stripes")
    assert again.returncode == 0
    evaluated = resnet_lab("eval", *OWN[:2], "runs=outputs/stripes")
    assert evaluated.returncode == 0, evaluated.stdout
    assert evaluated.stdout.count("seed0: as recorded") == 2
    (study / "report.md").unlink()
    assert resnet_lab("report", "outputs/stripes").returncode == 0
    report = (study / "report.md").read_text()
    for depth in (1, 3):
        assert f"tower-{depth}" in report
    with (study / "results.csv").open() as file:
        assert {row["model.depth"] for row in csv.DictReader(file)} == {"1", "3"}
    run = next(study.glob("*/seed0"))
    exported = resnet_lab("export", *OWN[:2], f"run={run}", "format=safetensors", "output=tower.safetensors")
    assert exported.returncode == 0, exported.stderr
    tuned = resnet_lab(
        "train", *OWN, "model=tower", f"model.depth={depth_of(run)}", "data=stripes", "weights=tower.safetensors"
    )
    assert tuned.returncode == 0, tuned.stderr


def depth_of(run: Path) -> int:
    depth: int = json.loads((run / "record.json").read_text())["config"]["model"]["depth"]
    return depth


def test_what_is_wrong_with_ones_own_code_is_said_in_a_sentence(resnet_lab: Call, files: Path) -> None:
    for words, told in (
        (("--config-dir", "conf", "model=tower"), "to use your own code, add --trust-package my_lab"),
        ((*OWN, "model=towr"), "did you mean model=tower?"),
        ((*OWN, "model=tower", "model.depth=0"), "model: depth must be 1 or more, got 0"),
        (
            (*OWN, "data=stripes", "+data.nois=1"),
            "data.nois is not a setting of Stripes; did you mean data.noise",
        ),
    ):
        ended = resnet_lab("train", *words)
        assert ended.returncode == 1
        assert told in ended.stderr, ended.stderr
