"""`--help` shows what each key means, in the words of the config files."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT

from resnet_lab.config.help import comments_in, explained, keys_in

Command = Callable[..., subprocess.CompletedProcess[str]]
FILES = sorted(path for path in ROOT.glob("conf/**/*.yaml") if path.parent.name != "experiment")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_key_of_a_config_file_is_explained(path: Path) -> None:
    found = comments_in(path)
    keys = {key for _, key, _ in keys_in(path.read_text()) if not key.startswith(("defaults", "hydra"))}
    own = {key for key in keys if key.rpartition(".")[2] not in ("_target_", "_partial_", "name")}
    assert own <= found.keys(), sorted(own - found.keys())


def test_help_has_the_comments_behind_the_keys(
    resnet_lab: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    shown = resnet_lab("train", "--help", "model=cifar_resnet18").stdout.splitlines()
    assert any(line.startswith("iterations: 690 # optimizer steps; the paper counts these") for line in shown)
    assert "model: # the network" in shown
    assert "  stem: cifar # keeps the resolution of small images" in shown


def test_a_key_without_a_comment_is_left_as_it_is() -> None:
    assert explained("a:\n  b: 1\nc: 2\n", {"a.b": "one"}) == "a:\n  b: 1 # one\nc: 2\n"
