"""What the tasks share whose answers are about some of the text's own tokens: an entity, or the answer to a question.

Which tokens these are is known once the model has answered, or a caller has named a span. They are marked then
(`Tokens.anchors`): marked texts are read at the marks, and keep them under every perturbation. `ExplainedModel.asked`
marks texts.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from explainer.explained.batch import EncodedText, TokenBatch, Tokens
from explainer.explained.readout import Readout, Target
from explainer.explained.tasks.base import AbstractTask, FoilLike, TargetLike, is_integer
from explainer.scored_text.units import visible_span
from explainer.typing import TokenIds, TokenMask

Marks = Float[Tensor, "batch seq kinds"]
"""1 where a token is marked, by the kind of mark."""


class Marked(NamedTuple):
    """A text with marks, and what is explained of it: one choice per question, and those of the foil."""

    text: EncodedText
    choices: list[int]
    foil: list[int] | None


class AbstractAnchoredTask(AbstractTask):
    """A task that marks the tokens that its answer is about.

    Attributes:
        segment: the text that spans count the characters of: 0 is the text, 1 the second one.
        part: what that text is called, in errors.
    """

    anchored: ClassVar[bool] = True
    segment: ClassVar[int]
    part: ClassVar[str]

    def bound(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "AbstractAnchoredTask":
        name = type(model).__name__
        if not name.endswith(self.head):
            raise ValueError(f"`model` is a {name}, and the task {self.name!r} reads models that end in {self.head}.")
        if model.config.is_encoder_decoder:
            raise ValueError(
                f"`model` {name} is an encoder-decoder, and the task {self.name!r} reads encoders and causal models."
            )
        return self

    @abstractmethod
    def marked(self, text: EncodedText, readout: Readout, wanted: Any, foil: FoilLike | Any | None) -> Marked:
        """One text with the marks of what is wanted of it.

        Args:
            text: without marks.
            readout: the model's answer to it.
            wanted: "predicted", (start, end) characters, a part of the text that occurs once, or the number of a token.

        Raises:
            ValueError: when the text has no such part, or the foil is the target itself.
        """

    @abstractmethod
    def marked_tokens(self, text: EncodedText) -> TokenMask:
        """The tokens of the marked text's entity or answer, from the first to the last."""

    @abstractmethod
    def marked_again(self, tokens: Tokens, anchors: TokenIds, choices: Sequence[int]) -> Tokens:
        """The tokens with the marks that `record` gives.

        Raises:
            ValueError: when marks and choices do not fit together.
        """

    @property
    @abstractmethod
    def n_marks(self) -> int:
        """The kinds of marks."""

    @abstractmethod
    def marks(self, batch: TokenBatch, target: Target) -> Marks:
        """The marks of the target in a batch of marked texts, for an explainer that is told the target by them."""

    @abstractmethod
    def any_other(self, text: EncodedText, draw: torch.Generator) -> tuple[int, int]:
        """A random (start, end) of the text that could be asked for: what a training explains besides predictions."""

    def asked(
        self,
        texts: Sequence[EncodedText],
        readout: Readout,
        wanted: Any = "predicted",
        foil: Any = None,
        score: str = "logit",
    ) -> tuple[list[EncodedText], Target]:
        found: list[Marked] = []
        for i, (text, one) in enumerate(zip(texts, spans_of(wanted, len(texts)), strict=True)):
            try:
                found.append(self.marked(text, readout[i : i + 1], one, foil))
            except ValueError as error:
                raise ValueError(f"{error} (of text {i}: {text.text[:60]!r})") from None
        targets = [
            Target(torch.tensor([one.choices]), None if one.foil is None else torch.tensor([one.foil]), score)
            for one in found
        ]
        empty = Target(torch.empty(0, 1, dtype=torch.int64), None, score)
        return [one.text for one in found], Target.joined(targets) if targets else empty

    def check_target(self, wanted: Any, foil: Any, score: str) -> None:
        for one in spans_of(wanted, 1):
            if not (isinstance(one, str) or is_integer(one) or is_span(one)):
                raise ValueError(
                    f"`target` must be 'predicted', [start, end] or a part of the {self.part}, got {one!r}."
                )
        Target(torch.zeros(1, 1, dtype=torch.int64), None, score)

    def target(self, wanted: Any, n: int, foil: FoilLike | None = None, score: str = "logit") -> Target:
        raise ValueError(
            f"What the task {self.name!r} explains stands in the text: mark it there by `ExplainedModel.asked`."
        )

    def shown(self, choices: Sequence[int], text: EncodedText) -> int | list[int]:
        """[start, end], the characters of the marked tokens."""
        return list(self.characters(text, self.marked_tokens(text)))

    def record(self, choices: Sequence[int], text: EncodedText) -> dict[str, list[int]]:
        assert text.tokens.anchors is not None
        return {"anchors": text.tokens.anchors.tolist(), "choices": list(choices)}

    def characters(self, text: EncodedText, mask: TokenMask) -> tuple[int, int]:
        """The characters of some tokens, without white space around them."""
        inside = [offset for offset, own in zip(text.offsets, mask.tolist(), strict=True) if own]
        return visible_span(self.source(text), min(start for start, _ in inside), max(end for _, end in inside))

    def source(self, text: EncodedText) -> str:
        """The text that spans count the characters of."""
        return (text.text, text.text_pair or "")[self.segment]

    def tokens_of(self, text: EncodedText, wanted: Any) -> list[int]:
        """The positions of the tokens that a span has characters of, or that a number names.

        Raises:
            ValueError: when there are none.
        """
        own = self.own_places(text)
        source, read_to = self.source(text), max((text.offsets[i][1] for i in own), default=0)
        if is_integer(wanted):
            if int(wanted) not in own:
                raise ValueError(
                    f"`target` {int(wanted)} is no token of the {self.part}, whose tokens are {own[0]} to {own[-1]}."
                    if own
                    else f"`target` {int(wanted)} is no token of the {self.part}, which has none."
                )
            return [int(wanted)]
        if isinstance(wanted, str):
            places = [i for i in range(len(source) - len(wanted) + 1) if wanted and source.startswith(wanted, i)]
            if len(places) != 1:
                raise ValueError(
                    f"`target` {wanted!r:.80} occurs {len(places)} times in the {self.part}, and must occur once: "
                    "give its characters [start, end]."
                )
            wanted = (places[0], places[0] + len(wanted))
        if not is_span(wanted):
            raise ValueError(
                f"`target` must be 'predicted', [start, end] or a part of the {self.part}, got {wanted!r:.80}."
            )
        start, end = map(int, wanted)
        if not 0 <= start < end <= len(source):
            raise ValueError(
                f"`target` {[start, end]} must be [start, end] characters of the {self.part}, which has {len(source)}."
            )
        found = [i for i in own if max(text.offsets[i][0], start) < min(text.offsets[i][1], end)]
        if not found and start >= read_to and source[start:end].strip():
            raise ValueError(
                f"`target` {[start, end]} stands behind the part of the {self.part} that the model reads, which ends "
                f"at character {read_to}: shorten the text."
            )
        if not found:
            raise ValueError(f"`target` {[start, end]} covers no token of the {self.part}: {source[start:end]!r:.80}.")
        if end > max(read_to, text.offsets[found[-1]][1]) and source[read_to:end].strip():
            raise ValueError(
                f"`target` {[start, end]} is cut: the model reads the {self.part} to character {read_to} only."
            )
        return found

    def own_places(self, text: EncodedText) -> list[int]:
        """The positions of the tokens of the text that spans count the characters of."""
        both = zip(text.words, text.segments, strict=True)
        return [i for i, (word, segment) in enumerate(both) if word >= 0 and segment == self.segment]


def unmarked(text: EncodedText) -> EncodedText:
    """The text without marks."""
    return replace(text, tokens=replace(text.tokens, anchors=None))


def with_anchors(text: EncodedText, numbers: dict[int, int]) -> EncodedText:
    """The text with some positions marked by a number from 1."""
    anchors = torch.zeros(len(text), dtype=torch.int64)
    anchors[list(numbers)] = torch.tensor(list(numbers.values()))
    return replace(text, tokens=replace(text.tokens, anchors=anchors))


def anchors_of(tokens: Tokens | TokenBatch) -> Tensor:
    """The marks.

    Raises:
        ValueError: when there are none.
    """
    if tokens.anchors is None:
        raise ValueError("What is explained of these texts is not marked in them: mark it by `ExplainedModel.asked`.")
    return tokens.anchors


def is_span(value: Any) -> bool:
    """Whether this is (start, end): two whole numbers.

    >>> is_span((0, 5)), is_span([3]), is_span("ab")
    (True, False, False)
    """
    listed = isinstance(value, list | tuple) or (isinstance(value, np.ndarray | Tensor) and value.ndim == 1)
    return listed and len(value) == 2 and all(is_integer(one) for one in value)


def spans_of(wanted: Any, n: int) -> list[Any]:
    """What is wanted of each of `n` texts: one thing of all, or a list with one per text.

    Two whole numbers are one span.

    Raises:
        ValueError: when there is not one per text.
    """
    if isinstance(wanted, str) or is_integer(wanted) or is_span(wanted) or not isinstance(wanted, Sequence):
        return [wanted] * n
    each: list[Any] = list(cast("Sequence[TargetLike]", wanted))
    if len(each) != n:
        raise ValueError(f"`target` must be one target, or one per text ({n}), got {len(each)}.")
    return each
