"""The name by which a service knows a run, kept in the run's directory so that it resumes there."""

from pathlib import Path

from resnet_lab.checks import UserError
from resnet_lab.files import read_regular, write_atomically

LONGEST = 100  # characters


def known(path: Path, iteration: int) -> str | None:
    """The name, if the run resumes and has one."""
    if not iteration or not path.exists():
        return None
    name = read_regular(path, LONGEST).strip()
    if not name.isalnum():
        raise UserError(f"{path} is damaged; remove it to log as another run")
    return name


def keep(path: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{name}\n")
