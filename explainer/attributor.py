"""The attributor: texts in, explanations out, by any method or by an exported explainer."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from jaxtyping import Int64
from safetensors.torch import load_file, save_file
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel
from explainer.explanation import Explanation
from explainer.export_config import CONFIG, ExportConfig
from explainer.methods.amortized import Amortized
from explainer.methods.base import AbstractMethod
from explainer.methods.run import predictions_and_scores
from explainer.models import AbstractMaskExplainer

WEIGHTS = "model.safetensors"


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
        progress_label = self.method.name if progress else None
        probabilities, targets, scores = predictions_and_scores(
            self.method, self.explained, encoded, self._targets(target, len(texts)), progress_label
        )
        rows = zip(encoded, scores, targets[:, 0].tolist(), probabilities, strict=True)
        return [self.explanation(text, score[0], chosen, p) for text, score, chosen, p in rows]

    def stream(self, texts: Iterable[str], chunk_size: int = 512, **options: Any) -> Iterator[Explanation]:
        """Explain texts of any iterable, a chunk at a time, in order."""
        remaining = iter(texts)
        while chunk := list(islice(remaining, chunk_size)):
            yield from self(chunk, **options)

    def _targets(self, target: str | int | Sequence[str | int], n: int) -> Int64[Tensor, "texts targets"]:
        """One class a text, `PREDICTED` where that is asked for."""
        asked = [target] * n if isinstance(target, str | int) else list(target)
        if len(asked) != n:
            raise ValueError(f"`target` must be one target, or one a text ({n}), got {len(asked)}.")
        return torch.tensor([[self.explained.label_index(t)] for t in asked])

    def explanation(self, text: EncodedText, scores: Tensor, target: int, probabilities: Tensor) -> Explanation:
        """The explanation of an encoded text from its scores (tokens,) for `target` and probabilities (labels,)."""
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
        ExportConfig.of(self.explained, self.method.explainer, folder).write(folder)

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
        config = ExportConfig.read(folder)
        reference = config.model_of(folder) if model is None else str(model)
        explained = ExplainedModel.from_pretrained(reference, baseline_token=config.baseline_token, **options)
        explainer = config.build(explained)
        load_exported(folder, explained, explainer)
        return cls(explained, Amortized(explainer))


def load_exported(folder: Path, explained: ExplainedModel, explainer: AbstractMaskExplainer) -> None:
    """Copy an exported explainer's weights into one of the same kind and settings.

    Raises:
        ValueError: when the files are broken, or were exported for another explained model or another explainer.
    """
    ExportConfig.read(folder).check(explained)
    try:
        weights = load_file(folder / WEIGHTS)
    except Exception as error:
        raise ValueError(f"{str(folder / WEIGHTS)!r} is missing or broken: {error}") from error
    explainer.load_trained(explained, weights)


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
