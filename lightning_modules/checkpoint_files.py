"""Checkpoints as files: whole or not there, and a broken one is named."""

import io
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from explainer.storage.atomic import replacing


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's checkpoint files, written in the folder that they belong to.

    Lightning itself writes to the temporary folder of the system and moves the file, which copies it where the run's
    folder is on another file system: a run that is killed meanwhile, or a full disk, then leaves a broken file in the
    place of a good one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if "://" in str(path):
            return super().save_checkpoint(checkpoint, path, storage_options)
        content = io.BytesIO()  # torch.save to a full disk raises a RuntimeError that names no file
        torch.save(checkpoint, content)
        with replacing(Path(path)) as name:
            Path(name).write_bytes(content.getbuffer())
        return None

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return super().load_checkpoint(path) if "://" in str(path) else _read(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint's content, on the CPU; nothing in the file is run.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when it is broken, or no checkpoint.
    """
    checkpoint = _read(path)
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{str(path)!r} is no checkpoint: it has no `state_dict`.")
    return checkpoint


def _read(path: str | Path) -> Any:
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no checkpoint {str(path)!r}.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many types, by the place of the damage
        # Of bytes that are no checkpoint torch says that they load without `weights_only`, which would run their code.
        reason = type(error).__name__ if isinstance(error, UnpicklingError) else str(error).partition("\n")[0]
        raise ValueError(f"The checkpoint {str(path)!r} is broken, or no checkpoint: {reason}") from error
