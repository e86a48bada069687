"""The attributor: texts in, explanations out, by any method or by an exported explainer."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel
from explainer.explanation import Explanation
from explainer.methods.amortized import Amortized
from explainer.methods.base import AbstractMethod
from explainer.methods.run import scores_of
from explainer.models import EXPLAINERS, AbstractMaskExplainer
from explainer.typing import Target

CONFIG, WEIGHTS = "config.json", "model.safetensors"
_PROBE = "The plot is thin , but the acting is wonderful ."


class Attributor:
    """An explained model and the method that explains it.

    >>> attributor = Attributor.from_pretrained("checkpoints/demo-attributor")  # doctest: +SKIP
    >>> attributor(["a gorgeous , witty film"])[0].words()  # doctest: +SKIP
    """

    def __init__(self, explained: ExplainedModel, method: AbstractMethod) -> None:
        self.explained = explained
        self.method = method

    def to(self, device: torch.device | str) -> "Attributor":
        self.explained.to(device)
        if isinstance(self.method, Amortized):
            self.method.explainer.to(device)
        return self

    def __call__(
        self,
        texts: Sequence[str],
        text_pairs: Sequence[str | None] | None = None,
        *,
        target: str | int | Sequence[str | int] = "predicted",
        progress: bool = False,
    ) -> list[Explanation]:
        """Explain each text, in order.

        Args:
            texts: any number of strings; an empty text gives an explanation without scored tokens.
            text_pairs: second texts, for classifiers of pairs.
            target: "predicted", a label, a class index, or one of these a text.

        Raises:
            TypeError: when a text is not a string.
            ValueError: when a target is unknown.
        """
        if len(texts) == 0:
            return []
        encoded = self.explained.encode(texts, text_pairs)
        probabilities = self.explained.predict([text.tokens for text in encoded]).softmax(dim=-1)
        chosen = self._targets(target, probabilities)
        scores = scores_of(self.method, self.explained, encoded, chosen, self.method.name if progress else None)
        rows = zip(encoded, scores, chosen.tolist(), probabilities, strict=True)
        return [self._explanation(*row) for row in rows]

    def stream(self, texts: Iterable[str], chunk_size: int = 512, **options: Any) -> Iterator[Explanation]:
        """Explain texts of any iterable, a chunk at a time, in order."""
        remaining = iter(texts)
        while chunk := list(islice(remaining, chunk_size)):
            yield from self(chunk, **options)

    def _targets(self, target: str | int | Sequence[str | int], probabilities: Float[Tensor, "batch labels"]) -> Target:
        if isinstance(target, str | int):
            return self.explained.target(target, probabilities)
        if len(target) != len(probabilities):
            raise ValueError(f"`target` must be one target, or one a text ({len(probabilities)}), got {len(target)}.")
        return torch.cat([self.explained.target(t, p[None]) for t, p in zip(target, probabilities, strict=True)])

    def _explanation(self, text: EncodedText, scores: Tensor, target: int, probabilities: Tensor) -> Explanation:
        ids = text.tokens.input_ids.tolist()
        return Explanation(
            text=text.text,
            text_pair=text.text_pair,
            tokens=list(self.explained.tokenizer.convert_ids_to_tokens(ids)),
            input_ids=ids,
            offsets=list(text.offsets),
            scorable=text.scorable.tolist(),
            words_of_tokens=list(text.words),
            segments=list(text.segments),
            scores=scores.tolist(),
            target=target,
            target_label=self.explained.labels[target],
            probabilities=probabilities.tolist(),
            method=self.method.name,
        )

    # Folders

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write config.json and model.safetensors: what was trained, and a reference to the explained model.

        Args:
            dtype: of the stored weights; that of training by default.
        """
        if not isinstance(self.method, Amortized):
            raise ValueError(f"Method {self.method.name!r} has no weights to save; it is named, not exported.")
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: parameter.detach().cpu().to(dtype or parameter.dtype).contiguous()
            for name, parameter in self.method.explainer.trained(self.explained).items()
        }
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(self._config(self.method.explainer, folder), indent=2) + "\n")

    def _config(self, explainer: AbstractMaskExplainer, folder: Path) -> dict[str, Any]:
        return {
            "amortex": 1,
            "explainer": {"kind": explainer.kind, **explainer.settings},
            "explained_model": _reference(self.explained.name, folder),
            "baseline_token": self.explained.tokenizer.convert_ids_to_tokens(self.explained.baseline_token_id),
            "labels": self.explained.labels,
            "tokenizer_sha256": self.explained.text.fingerprint,
            "probe_logits": [round(value, 4) for value in _probe(self.explained)],
        }

    @classmethod
    def from_pretrained(cls, name: str | Path, *, model: str | Path | None = None, **options: Any) -> "Attributor":
        """Load an exported explainer from its folder or hub id, and the model it explains.

        Args:
            model: the explained model, where it is not at the place the export refers to.
            options: for `ExplainedModel.from_pretrained` (dtype, batch_tokens).

        Raises:
            ValueError: when there is no exported explainer, its files are broken, or tokenizer or weights of the
                explained model are not those it was trained for.
        """
        folder = _folder(str(name))
        config = _read_config(folder)
        reference = str(model) if model is not None else _resolve(config["explained_model"], folder)
        explained = ExplainedModel.from_pretrained(reference, baseline_token=config["baseline_token"], **options)
        _check_same(explained, config, reference)
        settings = dict(config["explainer"])
        kind = EXPLAINERS.get(settings.pop("kind"))
        if kind is None:
            raise ValueError(f"{str(folder)!r} holds an explainer of another kind than {', '.join(EXPLAINERS)}.")
        explainer = kind(explained, **settings).eval()
        try:
            weights = load_file(folder / WEIGHTS)
        except Exception as error:
            raise ValueError(f"{str(folder / WEIGHTS)!r} is missing or broken: {error}") from error
        explainer.load_trained(explained, weights)
        return cls(explained, Amortized(explainer))


def is_attributor(name: str) -> bool:
    """Whether `name` is a folder or hub id that may hold an exported explainer, rather than a method's name."""
    return "/" in name or Path(name).is_dir()


def _folder(name: str) -> Path:
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS]))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(f"{name!r} is neither a folder nor a hub id that can be reached: {error}") from error


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text())
        config["amortex"], config["explainer"], config["explained_model"]
    except (OSError, json.JSONDecodeError, KeyError) as error:
        raise ValueError(
            f"{str(folder)!r} is no exported explainer: its {CONFIG} is missing, broken or of something else "
            f"({error}). Export one by `explainer export --ckpt ... --output DIR`."
        ) from error
    return config


def _reference(name: str | None, folder: Path) -> str:
    """A local model is referred to relative to the exported folder, so that the two can move together."""
    if name is None:
        raise ValueError("The explained model has no `name`, so the export could not say what it explains.")
    return os.path.relpath(name, folder) if Path(name).exists() else name


def _resolve(reference: str, folder: Path) -> str:
    beside = folder / reference
    return str(beside.resolve()) if beside.exists() else reference


def _probe(explained: ExplainedModel) -> list[float]:
    return explained.predict([explained.encode([_PROBE])[0].tokens])[0].tolist()


def _check_same(explained: ExplainedModel, config: dict[str, Any], name: str) -> None:
    if explained.text.fingerprint != config["tokenizer_sha256"]:
        raise ValueError(
            f"The tokenizer of {name!r} is not the one this explainer was trained with. "
            "Name the right model by `model`."
        )
    found, expected = torch.tensor(_probe(explained)), torch.tensor(config["probe_logits"])
    if found.shape != expected.shape or not torch.allclose(found, expected, atol=0.05, rtol=0.02):
        raise ValueError(
            f"{name!r} does not predict what the model this explainer was trained for predicts (logits "
            f"{found.tolist()} instead of {expected.tolist()} on a probe). Name the right model by `model`."
        )
