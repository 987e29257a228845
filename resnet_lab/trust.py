"""The user's own packages whose code a config may name: those on this process's command line, and no others.

No file and no environment variable can add one, so that a config, a record or a folder from somebody else
stays data.
"""

import contextlib
import hashlib
import importlib.util
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, all_suffixes
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from resnet_lab.checks import UserError

FLAG = "--trust-package"

# Whatever can write files or run commands for anyone who names it is not somebody's nets.
LIBRARIES = {
    "resnet_lab",
    "torch",
    "torchvision",
    "torchcodec",
    "torchmetrics",
    "pytorch_lightning",
    "lightning",
    "lightning_fabric",
    "lightning_utilities",
    "hydra",
    "hydra_plugins",
    "omegaconf",
    "antlr4",
    "numpy",
    "scipy",
    "sklearn",
    "joblib",
    "matplotlib",
    "mpl_toolkits",
    "PIL",
    "tensorboard",
    "rich",
    "filelock",
    "timm",
    "fsspec",
    "safetensors",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "submitit",
    "cloudpickle",
    "ray",
    "optuna",
    "yaml",
    "huggingface_hub",
    "requests",
    "urllib3",
    "pandas",
    "dill",
    "pip",
    "setuptools",
    "pkg_resources",
    "wheel",
    "pytest",
    "_pytest",
    "IPython",
    "ipykernel",
    "sitecustomize",
    "usercustomize",
}

_admitted: list[str] = []


def admit(names: Iterable[str]) -> None:
    """Trust these packages in this process.

    Raises:
        UserError: a name is not that of a top-level package, belongs to a library, or cannot be imported.
    """
    for name in names:
        if not name.isidentifier() or name.startswith("__"):
            raise UserError(f"{FLAG} must be the name of a top-level package, such as my_nets; got {name!r}")
        if name in LIBRARIES or name in sys.stdlib_module_names:
            raise UserError(
                f"{FLAG} is for a package of your own, such as my_nets; with {name} a config could do anything"
            )
        spec_of(name)
        if name not in _admitted:
            _admitted.append(name)


def add_flag(parser: ArgumentParser, help: str) -> None:
    """Give a command the option, once for each package."""
    parser.add_argument(FLAG, action="append", default=[], metavar="PACKAGE", help=help)


def is_trusted(target: str) -> bool:
    """Whether a dotted name begins with a package that the command line trusts."""
    return target.partition(".")[0] in _admitted


def arguments() -> list[str]:
    """Arguments with which another process trusts the same packages."""
    return [f"{FLAG}={name}" for name in _admitted]


def take(words: list[str]) -> list[str]:
    """Trust the packages that `arguments()` put among these words; return the other words."""
    admit(word.partition("=")[2] for word in words if word.startswith(f"{FLAG}="))
    return [word for word in words if not word.startswith(f"{FLAG}=")]


def remedy(target: str) -> str:
    """Advice for a config that names code outside the lab."""
    package = target.partition(".")[0]
    if package in LIBRARIES or package in sys.stdlib_module_names or not package.isidentifier():
        package = "my_nets"
    return f"to use your own code, add {FLAG} {package}"


def facts() -> dict[str, dict[str, str | None]]:
    """Version (if it was installed) and checksum of the code of each trusted package."""
    return {name: {"version": version_of(name), "sha256": checksum(name)} for name in _admitted}


def version_of(name: str) -> str | None:
    with contextlib.suppress(PackageNotFoundError):
        return version(name)
    return None


def checksum(name: str) -> str:
    """The sha256 of the names and contents of the package's Python and extension files."""
    spec = spec_of(name)
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    files = [(path.relative_to(folder).as_posix(), path) for folder in folders for path in folder.rglob("*")]
    code = [(where, path) for where, path in files if path.name.endswith(tuple(all_suffixes())) and path.is_file()]
    if not folders:
        code = [(name, Path(str(spec.origin)))]
    digest = hashlib.sha256()
    for where, path in sorted(code):
        if "__pycache__" not in path.parts:
            digest.update(f"{where}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def spec_of(name: str) -> ModuleSpec:
    found: Any = None
    with contextlib.suppress(ImportError, ValueError):
        found = importlib.util.find_spec(name)  # looks for it, and executes nothing
    if found is None:
        raise UserError(f"{FLAG} {name}: there is no such package; put the folder that has it on PYTHONPATH")
    spec: ModuleSpec = found
    return spec
