"""What is expensive to compute, computed once and kept on disk: never stale.

A file's name is the hash of everything that its content depends on: the explained model's fingerprint, the encoded
texts, the method's settings, the library versions, and the source of the package `explainer` itself. Whatever
changes, changes the name; there is nothing to invalidate. Whoever asks in chunks of texts goes on where it was
interrupted.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from explainer.methods.subset_regression import SubsetEffects, SubsetRegression
from explainer.typing import Target

CHUNK = 512  # texts a file


@dataclass(frozen=True)
class Cache:
    """A folder of tensors computed with one explained model.

    Attributes:
        folder: where the files are; None keeps nothing.
        key: what all contents depend on.
    """

    folder: Path | None
    key: dict[str, Any]

    @classmethod
    def of(cls, explained: ExplainedModel, folder: Path, **key: Any) -> "Cache":
        """The cache of this model in the precision that is switched on, with the package's code as it is now."""
        precision = _precision(explained.device.type)
        return cls(folder, {"model": explained.fingerprint, "code": _code(), "dtype": precision, **key})

    def path(self, texts: Sequence[EncodedText], **key: Any) -> Path | None:
        """Where the content of these texts and this key is, or will be."""
        return None if self.folder is None else self.folder / f"{_hash({**self.key, **key}, texts)}.safetensors"

    def __call__(
        self, texts: Sequence[EncodedText], compute: Callable[[], dict[str, Tensor]], **key: Any
    ) -> dict[str, Tensor]:
        """The content of these texts and this key, by `compute` where it is not there yet."""
        path = self.path(texts, **key)
        if path is None:
            return compute()
        if not path.exists():
            _write(path, compute())
        return load_file(path)


def numbered(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """A list of tensors of any shapes as a file holds it; `listed` reads it back."""
    return {str(i): tensor.contiguous().clone() for i, tensor in enumerate(tensors)}


def listed(stored: dict[str, Tensor]) -> list[Tensor]:
    """The list that `numbered` wrote, whatever else is beside it."""
    return [stored[str(i)] for i in range(len(stored)) if str(i) in stored]


def cache_folder() -> Path:
    """`AMORTEX_CACHE`, or `amortex` in the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "amortex"
    return Path(os.environ.get("AMORTEX_CACHE", default))


def cached_probabilities(explained: ExplainedModel, texts: Sequence[EncodedText]) -> Tensor:
    """The explained model's predictions (texts, labels)."""

    def compute(part: slice) -> dict[str, Tensor]:
        return numbered(explained.predict([text.tokens for text in texts[part]]).softmax(dim=-1).unbind())

    return torch.stack(_in_chunks(explained, texts, {"kind": "probabilities"}, None, compute, "predictions"))


def cached_scores(
    method: AbstractMethod, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target
) -> list[Tensor]:
    """The scores (tokens,) that a method gives each text for its target."""

    def compute(part: slice) -> dict[str, Tensor]:
        return numbered(scores_of(method, explained, texts[part], target[part]))

    return _in_chunks(explained, texts, method.settings, target, compute, f"teacher {method.name}")


def cached_effects(
    regression: SubsetRegression, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target
) -> list[SubsetEffects]:
    """What the subsets of each text really do to its target, in float32."""

    def compute(part: slice) -> dict[str, Tensor]:
        found = regression.effects(explained, explained.collate(texts[part]), target[part])
        return numbered([torch.cat([effects.design, effects.value[:, None]], dim=1).float() for effects in found])

    settings = {"kind": "effects", **regression.settings}
    stored = _in_chunks(explained, texts, settings, target, compute, "subsets")
    return [SubsetEffects(both[:, :-1], both[:, -1]) for both in stored]


def _in_chunks(
    explained: ExplainedModel,
    texts: Sequence[EncodedText],
    settings: dict[str, Any],
    target: Target | None,
    compute: Callable[[slice], dict[str, Tensor]],
    what: str,
) -> list[Tensor]:
    cache, values = Cache.of(explained, cache_folder()), list[Tensor]()
    for start in track(range(0, len(texts), CHUNK), what):
        part = slice(start, start + CHUNK)
        aim = None if target is None else target[part].tolist()
        values += listed(cache(texts[part], functools.partial(compute, part), settings=settings, target=aim))
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
    """A hash of the package that computes the values (not of how they are shown), and of the libraries below it."""
    digest, root = hashlib.sha256(), Path(explainer.__file__).parent
    for file in sorted(root.rglob("*.py")):
        if file.relative_to(root).parts[0] != "rendering":
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
