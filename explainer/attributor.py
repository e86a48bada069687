"""The attributor: texts in, explanations out, by any method or by an exported explainer."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.export import ExportedProgram

from explainer.explained import EncodedText, ExplainedModel
from explainer.explanation import Explanation
from explainer.folder import is_attributor as is_attributor
from explainer.folder import load_exported as load_exported
from explainer.folder import read, write
from explainer.hub import push
from explainer.methods.amortized import Amortized
from explainer.methods.base import AbstractMethod
from explainer.methods.run import predictions_and_scores
from explainer.portable.onnx import write_onnx
from explainer.portable.program import exported_program
from explainer.portable.sample import SAMPLE


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

    # Folders and programs

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None, merge: bool = False) -> None:
        """Write config.json and model.safetensors: what was trained, and a reference to the explained model.

        Args:
            dtype: of the stored weights; that of training by default.
            merge: put the explained model and its tokenizer into the folder too, so that it loads anywhere.
        """
        write(self.explained, self._amortized.explainer, Path(folder), dtype, merge)

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
        explained, explainer = read(str(name), None if model is None else str(model), **options)
        return cls(explained, Amortized(explainer))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        merge: bool = False,
        dtype: torch.dtype | None = None,
        card: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload attributor",
    ) -> str:
        """Upload what `save_pretrained` writes and a model card to the hub; returns the address of the commit.

        Args:
            repo_id: `owner/name`; made if it is not there.
            merge: upload the explained model and its tokenizer too. Needed where it is a folder of this machine.
            dtype: of the stored weights.
            card: text of README.md; a short one with the hub's metadata by default.
            private: whether a repository that is made is private.
            token: of the hub; that of `hf auth login` by default.
            revision: branch to commit to.

        Raises:
            ValueError: when others could not load it, because its explained model is a folder of this machine.
        """
        return push(
            self.explained,
            self._amortized.explainer,
            repo_id,
            merge=merge,
            dtype=dtype,
            card=card,
            private=private,
            token=token,
            revision=revision,
            commit_message=commit_message,
        )

    def to_exported_program(self, path: str | Path | None = None, texts: Sequence[str] = SAMPLE) -> ExportedProgram:
        """The attributor as a `torch.export` program of any batch and length, checked; written to `path` (.pt2).

        It takes and gives what the ONNX file does (`to_onnx`), the inputs by name, on this attributor's device.

        Raises:
            ValueError: when the attributor cannot be traced.
        """
        program = exported_program(self.explained, self._amortized, texts)
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            torch.export.save(program, path)
        return program

    def to_onnx(self, path: str | Path, *, int8: bool = False, texts: Sequence[str] = SAMPLE) -> dict[str, Any]:
        """Write an ONNX file that gives logits and scores, and beside it its tokenizer and a JSON of facts.

        Inputs: int64 `input_ids` and `attention_mask` (batch, seq), padded on the right, `target` (batch,) with a class
        index or -1 for the predicted class, and `token_type_ids` where the model reads them. Outputs: float32 `logits`
        (batch, labels) and `scores` (batch, seq), 0 at special tokens and padding. ONNX Runtime's results are compared
        with PyTorch's at several shapes, to 1e-4, before the file is put in its place.

        Args:
            int8: quantise the weights to int8; the facts then hold its agreement with PyTorch.
            texts: what the file is checked on; by default twelve plain English sentences.

        Returns:
            What the JSON file says: labels, max_tokens, special_token_ids, largest_difference, int8.

        Raises:
            ImportError: when onnx, onnxscript or onnxruntime is missing.
            ValueError: when ONNX cannot express the attributor, or gives other results.
        """
        return write_onnx(self.explained, self._amortized, Path(path), texts, int8)

    @property
    def _amortized(self) -> Amortized:
        if not isinstance(self.method, Amortized):
            raise ValueError(f"Method {self.method.name!r} has no weights to save; it is named, not exported.")
        return self.method
