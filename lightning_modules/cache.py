"""What training needs to know of the explained model, computed once and kept on disk: never stale.

A file's name is the hash of everything that its content depends on: the explained model's fingerprint, the encoded
texts, the method's settings, the library versions, and the source of the package `explainer` itself. Whatever
changes, changes the name; there is nothing to invalidate.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

import explainer
from explainer.explained import EncodedText, ExplainedModel
from explainer.methods import AbstractMethod
from explainer.methods.run import scores_of
from explainer.typing import Target

CHUNK = 512  # texts a file: an interrupted computation goes on where it was


def cache_folder() -> Path:
    """`AMORTEX_CACHE`, or `amortex` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "amortex"
    return Path(os.environ.get("AMORTEX_CACHE", default))


def cached_probabilities(explained: ExplainedModel, texts: Sequence[EncodedText]) -> Tensor:
    """The explained model's predictions (texts, labels)."""

    def compute(part: slice) -> list[Tensor]:
        return list(explained.predict([text.tokens for text in texts[part]]).softmax(dim=-1))

    return torch.stack(_cached(explained, texts, {"kind": "probabilities"}, None, compute, "predictions"))


def cached_scores(
    method: AbstractMethod, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target
) -> list[Tensor]:
    """The scores (tokens,) that a method gives each text for its target."""

    def compute(part: slice) -> list[Tensor]:
        return list(scores_of(method, explained, texts[part], target[part]))

    return _cached(explained, texts, method.settings, target, compute, f"teacher {method.name}")


def _cached(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    settings: dict[str, Any],
    target: Target | None,
    compute: Callable[[slice], list[Tensor]],
    what: str,
) -> list[Tensor]:
    values: list[Tensor] = []
    fingerprint, precision = explained.fingerprint, _precision(explained.device.type)
    for start in track(range(0, len(texts), CHUNK), what):
        part = slice(start, start + CHUNK)
        aim = None if target is None else target[part].tolist()
        key = {"model": fingerprint, "settings": settings, "target": aim, "code": _code(), "dtype": precision}
        path = cache_folder() / f"{_hash(key, texts[part])}.safetensors"
        if not path.exists():
            _write(path, {str(i): value.contiguous().clone() for i, value in enumerate(compute(part))})
        stored = load_file(path)
        values += [stored[str(i)] for i in range(len(stored))]
    return values


def _hash(key: dict[str, Any], texts: Sequence[EncodedText]) -> str:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
    for text in texts:
        digest.update(text.tokens.input_ids.numpy().tobytes() + b"|")
        if text.tokens.token_type_ids is not None:
            digest.update(text.tokens.token_type_ids.numpy().tobytes())
        digest.update(text.scorable.numpy().tobytes() + b"||")
    return digest.hexdigest()


def _precision(device: str) -> str:
    """The precision that the values are computed in on this kind of device."""
    return str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else "full"


@functools.cache
def _code() -> str:
    """A hash of the package that computes the values, and of the libraries below it."""
    digest = hashlib.sha256()
    for file in sorted(Path(explainer.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    for library in ("torch", "transformers", "captum"):
        digest.update(importlib.metadata.version(library).encode())
    return digest.hexdigest()


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Whole or not at all: a killed run leaves no half file under a valid name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
        part.close()
        save_file(tensors, part.name)
        os.replace(part.name, path)
