"""The contract of a task: how a model is asked, where its answer stands, and what the answers are called."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
from typing import Any, ClassVar, SupportsInt, cast

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained.batch import EncodedText, TokenBatch, Tokens
from explainer.explained.readout import PREDICTED, RUNNER_UP, Link, Readout, Target
from explainer.explained.text import TextEncoder

TargetLike = str | SupportsInt | Sequence[int]
"""A label, an index (also one of NumPy or PyTorch), or "predicted"; of marked texts also [start, end] characters."""

FoilLike = str | SupportsInt | Sequence[int]
"""A label, an index, or "runner_up"; of answers also [start, end] characters."""


class AbstractTask(ABC):
    """What one kind of model output means.

    A task is composed into an explained model; nothing else in the package knows classes, heads or positions. A
    concrete task says where the logits are (`read`) and at which positions of the last layer they are read
    (`read_share`).

    Attributes:
        name: the task's name as transformers' pipelines have it.
        auto_model: the `transformers.Auto...` class that loads models of this task.
        link: how logits become probabilities.
        decoder_reads_text: whether the decoder of an encoder-decoder reads the whole text once more.
        closed: whether the list of choices is short and closed, so that one explainer is trained for all of them.
        frames_text: whether there are tokens of the task's own around the text.
        wants_pair: whether every text comes with a second one.
        head: how the class names of its models end; empty where that does not tell them apart.
        anchored: whether the answer is about tokens of the text, which are marked (`Tokens.anchors`).
        reads_before: whether the model is asked at the token before a marked one, and not there.
    """

    name: ClassVar[str]
    auto_model: ClassVar[Any]
    link: Link = "softmax"
    decoder_reads_text: bool = False
    closed: ClassVar[bool] = True
    frames_text: ClassVar[bool] = False
    head: ClassVar[str] = ""
    anchored: ClassVar[bool] = False
    reads_before: ClassVar[bool] = False

    @property
    def wants_pair(self) -> bool:
        return False

    def auto_model_of(self, config: Mapping[str, Any]) -> Any:
        """The `transformers.Auto...` class for a model, or for a PEFT adapter, with this configuration."""
        return self.auto_model

    def bound(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "AbstractTask":
        """The task as this model is asked, before the model has read anything.

        Raises:
            ValueError: when this model or tokenizer cannot be asked so.
        """
        return self

    def measured(self, ask: Callable[[str], Readout]) -> "AbstractTask":
        """The task with the numbers that it measures at the loaded model; `ask` gives the answer to one text."""
        return self

    @property
    def probed(self) -> "AbstractTask":
        """The task as which a bound model is asked when it is loaded: one pass answers a text."""
        return self

    def settled(self, probed: "AbstractTask", pads: bool) -> "AbstractTask":
        """The task after the model was asked as `probed`, which knows by now where the model reads its answer.

        Args:
            pads: whether padding leaves the model's answers as they are.

        Raises:
            ValueError: when such a model cannot be asked so.
        """
        return probed

    @property
    @abstractmethod
    def labels(self) -> list[str]:
        """The names of the choices, in the order of their indices."""

    @abstractmethod
    def read(self, output: Any, batch: Any) -> Readout:
        """The logits of every choice, from the model's output for a (right-padded) batch; in float32 at least."""

    @abstractmethod
    def read_share(self, batch: TokenBatch) -> Float[Tensor, "batch seq"]:
        """The share with which the answer is read at each position of the last layer; rows sum to 1.

        Of an encoder-decoder, positions of the decoder.
        """

    def encode(
        self, encoder: TextEncoder, texts: Sequence[str], text_pairs: Sequence[str | None] | None = None
    ) -> list[EncodedText]:
        """The texts as the model reads them; what a task adds around them is not scorable."""
        return encoder.encode(texts, text_pairs)

    def cost(self, tokens: Tokens) -> int:
        """The number of tokens that the model reads for one text."""
        return len(tokens)

    def rows(self, batch: Any, target: Target | None = None) -> Any:
        """What the model reads for a right-padded batch: the batch, or several rows per text.

        A text's own tokens are the first ones of each of its rows.

        Args:
            target: only what its number depends on has to be read.
        """
        return batch

    def answer(self, output: Any, batch: Any, target: Target | None = None) -> Readout:
        """The readout from the model's output for the `rows` of a batch and target."""
        return self.read(output, batch)

    def n_questions(self, tokens: Tokens) -> int:
        """How many questions are read of a sequence."""
        return tokens.n_questions

    def inputs(self, batch: Any) -> dict[str, Any]:
        """Further keyword arguments of the model's forward pass."""
        return {}

    def reading(self, model: nn.Module, batch: Any) -> AbstractContextManager[None]:
        """Around a pass: may keep the model from computing what `read` does not need."""
        return nullcontext()

    @property
    def settings(self) -> dict[str, Any]:
        """The task as JSON, for exports, cache keys and reports."""
        return {"task": self.name, "labels": self.labels, "link": self.link}

    def is_that_of(self, other: "AbstractTask") -> bool:
        """Whether another task, bound to a model, has the settings of this one, whose labels may not be known yet."""
        ours, theirs = self.settings, other.settings
        return all(theirs.get(name) == value for name, value in ours.items() if name != "labels")

    def index_of(self, wanted: TargetLike) -> int:
        """The index of a label: its exact name comes first, then the only one that differs by case alone.

        A number is an index. A number in a string is one too, unless labels are numbers themselves ("1 star").

        Raises:
            ValueError: when there is no such label or index, or several labels fit.
        """
        labels = self.labels
        if isinstance(wanted, str):
            index = self._named(wanted)
        elif is_integer(wanted):
            index = int(cast(SupportsInt, wanted))
        else:
            raise ValueError(f"`target` must be a label or an index, got {type(wanted).__name__}: {wanted!r:.60}.")
        if not 0 <= index < len(labels):
            raise ValueError(
                f"`target` must be 'predicted', one of the labels {labels} or an index below {len(labels)}, "
                f"got {wanted!r}.{self._index_meant(wanted)}"
            )
        return index

    def _index_meant(self, wanted: Any) -> str:
        """The way out for an index that was written as a string where labels are numbers."""
        if not isinstance(wanted, str) or not wanted.isdecimal() or int(wanted) >= len(self.labels):
            return ""
        return (
            f" Labels are numbers here, so that a number in a string is a label: for the index {int(wanted)} give the "
            f"label there, {self.labels[int(wanted)]!r}, or in Python {int(wanted)} without quotes."
        )

    def _named(self, wanted: str) -> int:
        """The index of the label of that name, or of the number written there; -1 where there is none."""
        for fits in (lambda label: label == wanted, lambda label: label.casefold() == wanted.casefold()):
            places = [i for i, label in enumerate(self.labels) if fits(label)]
            if len(places) > 1:
                raise ValueError(f"`target` {wanted!r} fits the labels of {places}: give one of these indices.")
            if places:
                return places[0]
        numbered = any(label.isdecimal() for label in self.labels)
        return int(wanted) if wanted.isdecimal() and not numbered else -1

    def target(
        self,
        wanted: TargetLike | Sequence[TargetLike],
        n: int,
        foil: FoilLike | None = None,
        score: str = "logit",
    ) -> Target:
        """What is asked of `n` texts: the same for all, or one per text.

        Args:
            wanted: "predicted", a label, an index, or one of these per text.
            foil: what the target is contrasted with: "runner_up", a label or an index.
            score: the number that is explained.

        Raises:
            ValueError: when a label is unknown, there is not one per text, or the foil is the target itself.
        """
        listed = not isinstance(wanted, str) and isinstance(wanted, Iterable) and getattr(wanted, "ndim", 1) > 0
        each: list[Any] = list(cast(Any, wanted)) if listed else [wanted] * n
        if len(each) != n:
            raise ValueError(f"`target` must be one target, or one per text ({n}), got {len(each)}.")
        predicted = [isinstance(one, str) and one == "predicted" for one in each]
        if any(predicted) and self.link == "identity" and len(self.labels) > 1:
            raise ValueError(
                f"`target` must name one of the values {self.labels} that this model predicts; there is no predicted "
                "one among them."
            )
        chosen = [PREDICTED if stands else self.index_of(one) for one, stands in zip(each, predicted, strict=True)]
        other = None if foil is None else [self.foil_index(foil)] * n
        return Target.of(_column(chosen), None if other is None else _column(other), score)

    def asked(
        self,
        texts: Sequence[EncodedText],
        readout: Readout,
        wanted: Any = "predicted",
        foil: Any = None,
        score: str = "logit",
    ) -> tuple[list[EncodedText], Target]:
        """The texts as they are explained, marked where the task is `anchored`, and what is explained of each.

        Args:
            texts: without marks.
            readout: the model's answers to them.
            wanted: as of `target`; of marked texts "predicted", (start, end) characters, a part of the text that occurs
                once, or one of these per text.
            foil: as of `target`; of marked texts also a span.

        Raises:
            ValueError: when a label or span is unknown, there is not one per text, or the foil is the target itself.
        """
        return list(texts), self.target(wanted, len(texts), foil, score).resolved(readout)

    def check_target(self, wanted: Any, foil: Any, score: str) -> None:
        """Refuse what cannot be asked of any text.

        Raises:
            ValueError: when a label is unknown, or the foil is the target itself.
        """
        self.target(wanted, 1, foil, score)

    def several_of(self, text: EncodedText, readout: Readout, wanted: Any) -> list[Any]:
        """What can be asked of one text where several things are wanted of it: `wanted` is a list, or "all"."""
        return list(self.several(wanted))

    def predicted(self, text: EncodedText, readout: Readout) -> list[int]:
        """The choices that the model predicts of one text."""
        return readout.predicted().choices[0].tolist()

    def shown(self, choices: Sequence[int], text: EncodedText) -> int | list[int]:
        """The target as records have it: an index, or one per question."""
        return choices[0] if len(choices) == 1 else list(choices)

    def record(self, choices: Sequence[int], text: EncodedText) -> dict[str, list[int]] | None:
        """What a record has of the target besides, so that it can be asked again; None where that is nothing."""
        return None

    def foil_index(self, foil: FoilLike) -> int:
        """The index of a foil; `RUNNER_UP` stands for the runner-up.

        Raises:
            ValueError: when there is no such label or index.
        """
        try:
            return RUNNER_UP if isinstance(foil, str) and foil == "runner_up" else self.index_of(foil)
        except ValueError as error:
            told = str(error).replace("`target` must be 'predicted'", "`foil` must be 'runner_up'")
            raise ValueError(told.replace("`target`", "`foil`")) from None

    def several(self, wanted: str | Sequence[TargetLike]) -> list[int]:
        """The indices of several labels, or of all of them.

        Raises:
            ValueError: when it is neither "all" nor a list of labels and indices.
        """
        if (isinstance(wanted, str) and wanted != "all") or len(wanted) == 0:
            raise ValueError(f"`targets` must be 'all' or a list of classes, got {wanted!r}.")
        return list(range(len(self.labels))) if isinstance(wanted, str) else [self.index_of(one) for one in wanted]

    def describe(self, choices: Sequence[int], text: EncodedText) -> str:
        """The caption of a text's target: the name of its choice."""
        return ", ".join(self.labels[choice] for choice in choices)


def is_integer(value: Any) -> bool:
    """Whether this is one whole number, of Python, NumPy or PyTorch; True and False are none."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_floating_point() and value.dtype != torch.bool
    if isinstance(value, np.ndarray):
        return value.size == 1 and np.issubdtype(value.dtype, np.integer)
    return isinstance(value, Integral) and not isinstance(value, bool)


def _column(indices: list[int]) -> Int64[Tensor, " n"]:
    return torch.tensor(indices, dtype=torch.int64)
