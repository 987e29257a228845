"""Where a number comes from: versions, machine, commit. Imports no torch."""

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from resnet_lab import trust

# Those that touch pixels, nets or configs.
PACKAGES = (
    "resnet-lab",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scipy",
    "scikit-learn",
    "pillow",
    "timm",
    "torchcodec",
)
CPUINFO = Path("/proc/cpuinfo")
NVIDIA = Path("/proc/driver/nvidia/version")


def provenance() -> dict[str, Any]:
    """Facts for the record: `versions`, `machine`, `git` where the code is a checkout, and the packages that the
    command line trusts, if any."""
    return {
        "versions": {"python": platform.python_version()} | versions(),
        "machine": {
            "system": platform.platform(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "gpu_driver": gpu_driver(),
        },
        "git": commit(),
    } | ({"trusted_packages": packages} if (packages := trust.facts()) else {})


def versions() -> dict[str, str]:
    """Versions of the installed packages."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """The processor's name, which in a cloud may be that of a whole family."""
    return cpu_fact("model name") or platform.processor()


def cpu_fact(name: str) -> str:
    """The entry of that name for the first processor in /proc/cpuinfo, or an empty string."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    said = [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name]
    return said[0] if said else ""


def gpu_driver() -> str | None:
    found = re.search(r"Module.*?\s(\d+\.[\d.]+)", NVIDIA.read_text()) if NVIDIA.exists() else None
    return found[1] if found else None


def commit_of(git: Any) -> str:
    """A record's `git` as `0123456789ab` or `0123456789ab-dirty`; empty where the code was no checkout."""
    if not isinstance(git, dict):
        return ""
    return str(git.get("commit", ""))[:12] + ("-dirty" if git.get("dirty") else "")


def commit() -> dict[str, Any] | None:
    """The checkout's commit and whether its tracked files were changed; None if that is unknown."""
    here = Path(__file__).resolve().parent.parent.parent
    if not (here / ".git").exists() or not shutil.which("git"):
        return None

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", here, *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None  # as where the checkout is another user's

    head, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "-uno")
    return {"commit": head, "dirty": bool(changed)} if head and changed is not None else None
