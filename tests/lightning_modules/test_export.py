"""Checkpoints that cannot be exported."""

from pathlib import Path

import pytest
import torch

from lightning_modules.export import export


def test_a_missing_or_foreign_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.ckpt"):
        export(tmp_path / "nothing.ckpt", tmp_path)
    (tmp_path / "broken.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"broken\.ckpt"):
        export(tmp_path / "broken.ckpt", tmp_path)
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match=r"foreign\.ckpt"):
        export(tmp_path / "foreign.ckpt", tmp_path)


def test_wrong_options_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--dtype"):
        export(tmp_path / "x.ckpt", tmp_path, dtype="int4")
    with pytest.raises(ValueError, match="--scores"):
        export(tmp_path / "x.ckpt", tmp_path, scores=tmp_path / "none.json")
