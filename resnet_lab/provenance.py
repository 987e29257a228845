"""Where a number comes from: versions, machine, commit."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("resnet-lab", "torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy", "scikit-learn")


def provenance() -> dict[str, Any]:
    """Facts for the record: `versions`, `machine`, and `git` where the code is a checkout."""
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "machine": {"system": platform.platform(), "processor": processor(), "cores": os.cpu_count()},
        "git": commit(),
    }


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def commit() -> dict[str, Any] | None:
    """The checkout's commit and whether its tracked files were changed; None where that cannot be told."""
    here = Path(__file__).resolve().parent.parent
    if not (here / ".git").exists() or not shutil.which("git"):
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", here, *words], capture_output=True, text=True).stdout.strip()

    return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
