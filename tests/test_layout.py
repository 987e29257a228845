"""The house: imports between its rooms run one way, and what has to answer at once imports no torch."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "resnet_lab"
WITHOUT_TORCH = (
    "config.compose",
    "config.command_line",
    "runs",
    "sweeps",
    "report",
    "trust",
    "train",
    "analyze",
    "eval",
    "info",
    "list_runs",
)


def room(module: str) -> str:
    """`runs` of resnet_lab.runs.signals, `checks` of resnet_lab.checks."""
    return module.split(".")[1]


def imported(path: Path) -> set[str]:
    """The modules of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resnet_lab"):
            names = [node.module] if node.module != "resnet_lab" else [f"resnet_lab.{n.name}" for n in node.names]
            found.update(name for name in names if name)
    return found


def test_imports_between_rooms_run_one_way() -> None:
    arrows: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own != "__init__":
            arrows.setdefault(own, set()).update({room(module) for module in imported(path)} - {own})
    assert len(list(TopologicalSorter(arrows).static_order())) > 10  # which raises CycleError


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_answers_at_once_imports_no_torch(name: str) -> None:
    path = PACKAGE / name.replace(".", "/")
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for file in files]
    code = f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
