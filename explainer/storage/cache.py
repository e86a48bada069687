"""Tensors that are expensive to compute, computed once and kept on disk.

A file's name is the hash of everything that its content depends on: the explained model's fingerprint, its task, the
encoded texts, the method's settings, the library versions, and the source of the packages that compute. Any change
gives a new file name, so entries are never stale. A file holds a digest of its tensors: what a damaged file held is
computed again.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel
from explainer.storage.atomic import replacing
from explainer.storage.provenance import installed_version

PACKAGE = Path(__file__).parent.parent
COMPUTING = ("explained", "explainers", "faithfulness", "methods", "metrics")
LIBRARIES = ("torch", "transformers", "captum")


@dataclass(frozen=True)
class Cache:
    """A folder of tensors computed with one explained model.

    Attributes:
        folder: holds the files; None keeps nothing.
        key: everything that all contents depend on, as JSON.
    """

    folder: Path | None
    key: dict[str, Any]

    @classmethod
    def of(cls, explained: ExplainedModel, folder: Path, **key: Any) -> "Cache":
        """The cache of this model, task and code, in the precision that is switched on."""
        return cls(
            folder,
            {
                "model": explained.fingerprint,
                "task": explained.task.settings,
                "code": code_digest(PACKAGE),
                "dtype": _precision(explained.device.type),
                **key,
            },
        )

    def path(self, texts: Sequence[EncodedText], **key: Any) -> Path | None:
        """The file for the content of these texts and this key, whether it exists or not."""
        return None if self.folder is None else self.folder / f"{_hash({**self.key, **key}, texts)}.safetensors"

    def __call__(
        self, texts: Sequence[EncodedText], compute: Callable[[], dict[str, Tensor]], **key: Any
    ) -> dict[str, Tensor]:
        """The content of these texts and this key; `compute` gives it where no whole file is on disk.

        Raises:
            OSError: when the file cannot be written.
        """
        path = self.path(texts, **key)
        if path is None:
            return compute()
        stored = _read(path)
        return _write(path, compute()) if stored is None else stored

    def fill(self, texts: Sequence[EncodedText], compute: Callable[[], dict[str, Tensor]], **key: Any) -> None:
        """Compute the content of these texts and this key where no whole file is on disk."""
        self(texts, compute, **key)

    def holds(self, texts: Sequence[EncodedText], **key: Any) -> bool:
        """Whether the content of these texts and this key is on disk."""
        path = self.path(texts, **key)
        return path is not None and _read(path) is not None


def _read(path: Path) -> dict[str, Tensor] | None:
    """The tensors of a file; None where there is no file, or one that is not what was written."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        tensors = load(content)
        digest = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["sha256"]
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None
    return tensors if digest == _digest(tensors) else None


def _write(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as they will be read from the file."""
    content = save(tensors, {"sha256": _digest(tensors)})  # `save_file` to a full disk raises no OSError
    try:
        with replacing(path) as name:
            Path(name).write_bytes(content)
    except OSError as error:
        hint = " (AMORTEX_CACHE names another folder)" if cache_folder() in path.parents else ""
        raise OSError(error.errno, f"{error.strerror}{hint}", str(path)) from error
    return load(content)


def _digest(tensors: dict[str, Tensor]) -> str:
    """Of names, types, shapes and values."""
    return hashlib.sha256(save(tensors)).hexdigest()


def numbered(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """A list of tensors of any shapes as a file holds it; `listed` reads it back."""
    return {str(i): tensor.contiguous().clone() for i, tensor in enumerate(tensors)}


def listed(stored: dict[str, Tensor]) -> list[Tensor]:
    """The list that `numbered` wrote; other tensors in the file are left out."""
    return [stored[str(i)] for i in range(len(stored)) if str(i) in stored]


def cache_folder() -> Path:
    """`AMORTEX_CACHE`, or `amortex` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "amortex"
    return Path(os.environ.get("AMORTEX_CACHE", default))


@functools.cache
def code_digest(package: Path) -> str:
    """A hash of the code that computes: the packages `COMPUTING` of the folder `package`, and the libraries' versions.

    Commands, rendering and the rest decide nothing about cached values. A change there keeps what is cached.
    """
    digest = hashlib.sha256()
    for folder in COMPUTING:
        for file in sorted((package / folder).rglob("*.py")):
            digest.update(file.relative_to(package).as_posix().encode() + b"\n" + file.read_bytes())
    for library in LIBRARIES:
        digest.update(installed_version(library).encode())
    return digest.hexdigest()


def _hash(key: dict[str, Any], texts: Sequence[EncodedText]) -> str:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
    for text in texts:
        digest.update(f"|{len(text)}|{text.units}|".encode())
        digest.update(text.tokens.key + b"|" + text.scorable.numpy().tobytes())
    return digest.hexdigest()


def _precision(device: str) -> str:
    """The precision that values are computed in on this kind of device."""
    return str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else "full"
