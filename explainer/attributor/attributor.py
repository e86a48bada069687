"""The attributor: texts in, explanations out, by any method or by an exported explainer."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from explainer.attributor.compilation import CompiledBlocks
from explainer.attributor.inputs import Classes, Item, amount, classes, encode, rows
from explainer.attributor.locking import alone_with
from explainer.attributor.trust import Fallback, trusted
from explainer.explained import EncodedText, ExplainedModel
from explainer.explainers import AbstractMaskExplainer
from explainer.explainers.folder import read, write
from explainer.explanation import Explanation
from explainer.export.hub import push
from explainer.export.onnx import write_onnx
from explainer.export.program import exported_program
from explainer.export.sentences import SAMPLE
from explainer.methods.base import AbstractMethod
from explainer.methods.run import predictions_and_scores
from explainer.methods.trained.amortized import Amortized
from explainer.methods.trained.refined import Refined


class Attributor:
    """An explained model and the method that explains it.

    >>> attributor = Attributor.from_pretrained("checkpoints/demo-attributor")  # doctest: +SKIP
    >>> attributor("a gorgeous , witty film").words()  # doctest: +SKIP

    The same call gives the same scores, to the bit. Threads may share an attributor, and several attributors of one
    explained model: each call has the model to itself until it is done (a stream: for a chunk), since explaining edits
    the model for the time of a pass.
    """

    def __init__(self, explained: ExplainedModel, method: AbstractMethod) -> None:
        self.explained = explained
        self.method = method
        self._compiled: CompiledBlocks | None = None

    def to(self, device: torch.device | str) -> "Attributor":
        self.explained.to(device)
        if isinstance(self.method, Amortized):
            self.method.explainer.to(device)
        return self

    def compile(self, **options: Any) -> "Attributor":
        """Run prediction and explainer through torch.compile from now on; the first calls take long.

        Args:
            options: of `torch.compile` (`backend`, `mode`); shapes are dynamic unless `dynamic=False`.

        Raises:
            ValueError: when the method is no trained explainer: the others edit the model in ways that a compiled
                one would not notice.
        """
        self._compiled = CompiledBlocks(self.explained, self._explainer("compile"), **options)
        return self

    def __call__(
        self,
        texts: Any,
        text_pairs: Any = None,
        *,
        target: str | int | Sequence[str | int] = "predicted",
        targets: Classes | None = None,
        is_split_into_words: bool = False,
        trust: bool = False,
        fallback: str | AbstractMethod | Fallback | None = None,
        min_faithfulness: float | int | None = None,
        progress: bool = False,
    ) -> Any:
        """Explain one text, a list of texts, or any other iterable of them.

        A text is a string, a list of words (`is_split_into_words`), or a mapping with `text` and optionally
        `text_pair`, such as a row of a `datasets.Dataset`. An empty text gives an explanation without scored tokens.

        ============================================ ============ ==================================
        texts                                        `target`     `targets`
        ============================================ ============ ==================================
        one                                          Explanation  {label: Explanation}
        a list or tuple                              list of them list of them, in order
        any other iterable: generator, data set ...  iterator     iterator, read a chunk at a time
        ============================================ ============ ==================================

        Args:
            texts: one or more texts.
            text_pairs: second texts, for classifiers of pairs: one a text.
            target: "predicted", a label, a class index, or a list of one of these a text.
            targets: several classes for every text instead: a list of labels and indices, or "all".
            is_split_into_words: texts are lists of words; offsets are then characters of the words joined by spaces.
            trust: also measure each map's agreement with its prediction (one more batched pass).
            fallback: a method (its name or settings) for texts whose trust is below `min_faithfulness`.
            min_faithfulness: comprehensiveness minus sufficiency, between -1 and 2.
            progress: show a progress bar.

        Raises:
            TypeError: when a text is not a string (or list of words).
            ValueError: when a target is unknown, or arguments do not go together.
        """
        options: dict[str, Any] = {"target": target, "targets": targets, "is_split_into_words": is_split_into_words}
        options |= {"trust": trust, "fallback": Fallback.of(fallback, min_faithfulness), "progress": progress}
        many = amount(texts, is_split_into_words)
        if many == "stream":
            return self.stream(texts, text_pairs, **options)
        if many == "one":
            return self._explain_rows(list(rows([texts], None if text_pairs is None else [text_pairs])), **options)[0]
        if text_pairs is not None and len(text_pairs) != len(texts):
            raise ValueError(f"`text_pairs` must have one entry a text ({len(texts)}), got {len(text_pairs)}.")
        return self._explain_rows(list(rows(texts, text_pairs)), **options)

    def stream(
        self, texts: Iterable[Item], text_pairs: Iterable[Item] | None = None, chunk_size: int = 512, **options: Any
    ) -> Iterator[Any]:
        """Explain texts of any iterable, a chunk at a time, in order; `options` are those of a call.

        Raises:
            ValueError: when `target` is a list: here it is one for all texts.
        """
        if not isinstance(options.get("target", "predicted"), str | int):
            raise ValueError("`target` must be one for all texts of a stream; call with lists for one a text.")
        options["fallback"] = Fallback.of(options.get("fallback"), options.pop("min_faithfulness", None))
        return self._chunks(rows(texts, text_pairs), chunk_size, options)

    def _chunks(self, remaining: Iterator[tuple[Item, Item]], size: int, options: dict[str, Any]) -> Iterator[Any]:
        while chunk := list(islice(remaining, size)):
            yield from self._explain_rows(chunk, **options)

    def _explain_rows(
        self,
        given: list[tuple[Item, Item]],
        target: str | int | Sequence[str | int] = "predicted",
        is_split_into_words: bool = False,
        **options: Any,
    ) -> list[Any]:
        with alone_with(self.explained):
            encoded = encode(self.explained, given, is_split_into_words)
            return self.explain(encoded, target, **options)

    def explain(
        self,
        encoded: Sequence[EncodedText],
        target: str | int | Sequence[str | int] = "predicted",
        targets: Classes | None = None,
        trust: bool = False,
        fallback: Fallback | None = None,
        progress: bool = False,
    ) -> list[Any]:
        """The explanations of texts that are encoded already (`explained.encode`), as a call gives those of a list."""
        asked = classes(self.explained, target, targets, len(encoded))
        if len(encoded) == 0:
            return []
        self._warn_of_length(max(map(len, encoded)))
        with alone_with(self.explained):
            with nullcontext() if self._compiled is None else self._compiled.running():
                probabilities, chosen, scores = predictions_and_scores(
                    self.method, self.explained, encoded, asked, self.method.label if progress else None
                )
            found = [
                self.explanation(text, score, index, p)
                for text, p, indices, maps in zip(encoded, probabilities, chosen.tolist(), scores, strict=True)
                for index, score in zip(indices, maps, strict=True)
            ]
            of = [text for text in encoded for _ in range(asked.shape[1])]
            if fallback is not None:
                found = fallback(self.explained, of, found)
            elif trust:
                found = trusted(self.explained, of, found)
        if targets is None:
            return found
        each = iter(found)
        return [{e.target_label: e for e in islice(each, asked.shape[1])} for _ in encoded]

    def refine(self, text: Item, text_pair: Item = None, *, steps: int = 10, **options: Any) -> Explanation:
        """The explanation of one text after `steps` more updates of the explainer on it (AML's fAML); its last map.

        The attributor is left as it was, to the bit.

        Args:
            text: a string, a list of words, or a mapping with `text` and `text_pair`.
            steps: updates; 0 gives the explanation of a call.
            options: settings of `Refined` (`learning_rate`, `kept`, `destroyed`, `sparse`, `weight_decay`, `select`),
                and `target`, `is_split_into_words` and `trust` of a call.

        Raises:
            ValueError: when the method is no trained explainer.
        """
        names = ("target", "is_split_into_words", "trust")
        asked = {name: options.pop(name) for name in names if name in options}
        refined = Refined(self._explainer("refine"), steps=steps, **options)
        return Attributor(self.explained, refined)._explain_rows(list(rows([text], [text_pair])), **asked)[0]

    def _warn_of_length(self, tokens: int) -> None:
        explainer = self.method.explainer if isinstance(self.method, Amortized) else None
        if explainer is not None and explainer.reach is not None and tokens > explainer.reach:
            warnings.warn(
                f"Texts of more than {explainer.reach} tokens were given, and the longest that this explainer was "
                f"trained on has {explainer.longest_text}: their scores may be wrong. `trust=True` measures that; "
                "train on longer texts, or a side explainer.",
                stacklevel=2,
            )

    def _explainer(self, verb: str) -> AbstractMaskExplainer:
        if not isinstance(self.method, Amortized):
            raise ValueError(f"Method {self.method.name!r} is no trained explainer: there is nothing to {verb}.")
        return self.method.explainer

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
            method=self.method.label,
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
