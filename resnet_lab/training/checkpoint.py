"""Checkpoints that are whole or absent, and verified before they are used."""

import io
import os
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.checkpoint_io import CheckpointIO

from resnet_lab.checks import UserError
from resnet_lab.files import check_not_packed, sync
from resnet_lab.runs.directory import previous
from resnet_lab.runs.identity import hash_of_run
from resnet_lab.runs.sealed import sealed, unsealed
from resnet_lab.text import one_line


class VerifiedCheckpointIO(CheckpointIO):
    """Write beside the target, keep the generation before, and store a sha256 that each load verifies.

    Only tensors and plain types are unpickled.
    """

    tried = False  # whether a checkpoint of this process can be read again

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        for place in (path, previous(path)):
            make_room(place)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        if not self.tried:
            check_plain(buffer, checkpoint.get("callbacks", {}))
            self.tried = True
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.unlink(missing_ok=True)  # or a link planted there would be followed
        try:
            with beside.open("xb") as file:
                file.writelines(sealed(buffer.getbuffer()))
                file.flush()
                sync(file.fileno())
            # a damaged checkpoint must not replace a good one
            if path.is_file() and (unsealed(path) is not None or not previous(path).exists()):
                os.replace(path, previous(path))
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        sync(folder)
        os.close(folder)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        checkpoint = read_checkpoint(Path(path))
        if checkpoint is None:
            raise ValueError(f"{path} is not a whole checkpoint of ours: its checksum does not hold")
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def check_plain(buffer: io.BytesIO, callbacks: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that no run could resume from.

    Raises:
        UserError: some state is not of tensors and plain types.
    """
    try:
        torch.load(io.BytesIO(buffer.getbuffer()), map_location="meta", weights_only=True)
    except pickle.UnpicklingError as error:
        cause = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), one_line(error))
        raise UserError(
            "a checkpoint must be of tensors, numbers, strings, lists and dicts, and holds something else "
            f"({cause}); mend the state_dict of a callback, of {', '.join(callbacks)}"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint onto the CPU; None if it is truncated, altered or not one of ours."""
    content = unsealed(path)
    if content is None:
        return None
    try:
        check_not_packed(path, content)
        checkpoint: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # torch may raise anything over a file that has only the checksum right
        return None
    return checkpoint if isinstance(checkpoint, dict) and "global_step" in checkpoint else None


def newest_whole(path: Path, needed: Collection[str] = ()) -> tuple[Path, dict[str, Any]] | None:
    """Find the newest checkpoint, `path` or the generation before it, that can be read and has the keys
    `needed`."""
    for candidate in (path, previous(path)):
        checkpoint = read_checkpoint(candidate) if candidate.is_file() else None
        if checkpoint is not None and checkpoint.keys() >= set(needed):
            return candidate, checkpoint
    return None


def is_of(config: dict[str, Any], checkpoint: dict[str, Any]) -> bool:
    """Whether the run of that config wrote the checkpoint; False if it names no run."""
    try:
        # where older versions put it
        run = checkpoint["run"] if "run" in checkpoint else checkpoint["callbacks"]["Curves"]["run"]
    except (LookupError, TypeError):
        return False
    return bool(run == hash_of_run(config))


def make_room(path: Path) -> None:
    """Set aside a folder that occupies the place of a checkpoint."""
    if path.is_dir() and not path.is_symlink():
        os.replace(path, path.with_name(f"{path.name}-set-aside-{os.getpid()}"))
