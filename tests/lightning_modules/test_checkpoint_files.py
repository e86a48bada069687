"""Checkpoint files: whole or not there, also on another file system; a broken one is named."""

import errno
import os
from pathlib import Path

import pytest
import torch

from lightning_modules.checkpoint_files import CheckpointFiles, read_checkpoint

STATE = {"state_dict": {"weight": torch.ones(100)}}


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.ckpt"
    CheckpointFiles().save_checkpoint(STATE, path)
    assert torch.equal(CheckpointFiles().load_checkpoint(path)["state_dict"]["weight"], torch.ones(100))
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


def test_a_write_that_fails_keeps_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    CheckpointFiles().save_checkpoint(STATE, path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        CheckpointFiles().save_checkpoint({"state_dict": {}}, path)
    assert "weight" in read_checkpoint(path)["state_dict"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


def test_the_file_is_written_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename within a folder never copies; one from the system's temporary folder does on another file system."""
    renamed: list[tuple[str, str]] = []
    replace = os.replace

    def noted(old: str, new: str) -> None:
        renamed.append((str(old), str(new)))
        replace(old, new)

    monkeypatch.setattr(os, "replace", noted)
    CheckpointFiles().save_checkpoint(STATE, tmp_path / "a.ckpt")
    ((old, new),) = renamed
    assert (Path(new), tmp_path in Path(old).parents) == (tmp_path / "a.ckpt", True)


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "other"])
def test_a_broken_file_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    CheckpointFiles().save_checkpoint(STATE, path)
    if damage == "other":
        torch.save([1], path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:300], "text": b"no checkpoint", "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"a\.ckpt' is (broken|no checkpoint)"):
        read_checkpoint(path)
    if damage != "other":
        with pytest.raises(ValueError, match=r"a\.ckpt' is broken"):
            CheckpointFiles().load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint '.*nothing\.ckpt'"):
        read_checkpoint(tmp_path / "nothing.ckpt")
