import hashlib
import io
import os
from pathlib import Path

import pytest
import torch

from resnet_lab.training.checkpoint import VerifiedCheckpointIO, newest_whole


def save(path: Path, step: int) -> None:
    VerifiedCheckpointIO().save_checkpoint({"global_step": step, "weights": torch.full((100,), float(step))}, path)


def test_a_saved_checkpoint_comes_back(tmp_path: Path) -> None:
    save(tmp_path / "last.ckpt", 7)
    loaded = VerifiedCheckpointIO().load_checkpoint(tmp_path / "last.ckpt")
    assert loaded["global_step"] == 7
    assert torch.equal(loaded["weights"], torch.full((100,), 7.0))


@pytest.mark.parametrize("damage", ["cut off", "flipped bit", "empty"])
def test_a_damaged_one_is_refused_and_the_one_before_taken(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "last.ckpt"
    save(path, 1)
    save(path, 2)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes({"cut off": raw[:-100], "flipped bit": bytes(raw), "empty": b""}[damage])
    with pytest.raises(ValueError, match="checksum"):
        VerifiedCheckpointIO().load_checkpoint(path)
    found = newest_whole(path)
    assert found is not None
    assert found[1]["global_step"] == 1


@pytest.mark.parametrize("content", ["junk", "{}", "a list", "a folder", "a torch file cut off"])
def test_what_only_its_checksum_makes_ours_is_passed_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / "last.ckpt"
    save(path, 1)
    save(path, 2)
    buffer = io.BytesIO()
    torch.save({"{}": {}, "a list": [1]}.get(content, {"global_step": 9}), buffer)
    raw = {"junk": b"junk", "a torch file cut off": buffer.getvalue()[:-300]}.get(content, buffer.getvalue())
    path.unlink()
    if content == "a folder":
        path.mkdir()
    else:
        path.write_bytes(hashlib.sha256(raw).digest() + raw)
    found = newest_whole(path)
    assert found is not None
    assert found[1]["global_step"] == 1
    save(path, 3)
    assert newest_whole(path)[1]["global_step"] == 3  # type: ignore[index]


def test_a_save_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    save(path, 1)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resnet_lab.training.checkpoint.sync", full)
    with pytest.raises(OSError, match="No space left"):
        save(path, 2)
    assert newest_whole(path)[1]["global_step"] == 1  # type: ignore[index]
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert newest_whole(tmp_path / "last.ckpt") is None


def test_the_content_is_on_the_disk_before_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    save(path, 1)
    done = []
    replace = os.replace

    def note_sync(descriptor: int) -> None:
        done.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))

    def note_replace(source: Path, target: Path) -> None:
        done.append((Path(source).name, target.name))
        replace(source, target)

    monkeypatch.setattr("resnet_lab.training.checkpoint.sync", note_sync)
    monkeypatch.setattr("os.replace", note_replace)
    save(path, 2)
    beside = f".last.ckpt.{os.getpid()}"
    assert done == [
        ("sync", beside),
        ("last.ckpt", "previous-last.ckpt"),
        (beside, "last.ckpt"),
        ("sync", tmp_path.name),
    ]
