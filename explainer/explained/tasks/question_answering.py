"""Extractive question answering: the first and the last token of the answer, two questions whose choices are positions.

The logits of a position are those of the token that stood there in the whole text: deleted tokens have none (-inf), and
the answer's two tokens are never deleted. Probabilities are those of the model itself, over all tokens that it reads.
The predicted answer is the best valid span: in the context, the end not before the start, and not too long.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForQuestionAnswering, PreTrainedModel

from explainer.explained.batch import EncodedText, TokenBatch, Tokens
from explainer.explained.readout import Readout, Target, precise
from explainer.explained.tasks.anchored import AbstractAnchoredTask, Marked, Marks, anchors_of, with_anchors
from explainer.explained.tasks.base import FoilLike
from explainer.explained.text import TextEncoder
from explainer.typing import TokenIds, TokenMask

ScoredPart = Literal["both", "context", "question"]
"""Whose tokens get scores."""

START, END, FOIL = 1, 2, 3
"""The marks of the answer's first and last token (an answer of one token has the first alone), and of a foil's two."""


@dataclass(frozen=True)
class QuestionAnswering(AbstractAnchoredTask):
    """A `...ForQuestionAnswering` model: the question is the text, the context its second text.

    Args:
        scorable: whose tokens get scores and are perturbed: those of `both`, of the `context` or of the `question`.
        longest_answer: tokens of the longest answer that is predicted.

    Raises:
        ValueError: when there is no such part, or the longest answer has no token.
    """

    name: ClassVar[str] = "question-answering"
    auto_model: ClassVar[Any] = AutoModelForQuestionAnswering
    head: ClassVar[str] = "ForQuestionAnswering"
    closed: ClassVar[bool] = False
    segment: ClassVar[int] = 1
    part: ClassVar[str] = "context"
    scorable: ScoredPart = "both"
    longest_answer: int = 15

    def __post_init__(self) -> None:
        if self.scorable not in get_args(ScoredPart):
            raise ValueError(f"`scorable` must be one of {', '.join(get_args(ScoredPart))}, got {self.scorable!r}.")
        if self.longest_answer < 1:
            raise ValueError(f"`longest_answer` must be a positive number of tokens, got {self.longest_answer}.")

    @classmethod
    def of(cls, model: PreTrainedModel) -> "QuestionAnswering":
        """The task of a loaded model."""
        return cls()

    @property
    def labels(self) -> list[str]:
        return []

    @property
    def wants_pair(self) -> bool:
        return True

    @property
    def settings(self) -> dict[str, Any]:
        return {"task": self.name, "scorable": self.scorable, "longest_answer": self.longest_answer}

    def encode(
        self, encoder: TextEncoder, texts: Sequence[str], text_pairs: Sequence[str | None] | None = None
    ) -> list[EncodedText]:
        """Questions with their contexts, which are cut where both are too long.

        Raises:
            ValueError: when a question has no context.
        """
        pairs = [None] * len(texts) if text_pairs is None else list(text_pairs)
        for i, pair in enumerate(pairs):
            if pair is None:
                raise ValueError(f"`text_pairs[{i}]` is missing: a question is the text, its context the second text.")
        return [self._prepared(text) for text in encoder.encode(texts, pairs, truncation="only_second")]

    def _prepared(self, text: EncodedText) -> EncodedText:
        """The text with the positions that its tokens keep, and scores for the wanted part alone."""
        wanted = {"both": (0, 1), "context": (1,), "question": (0,)}[self.scorable]
        own = torch.tensor([segment in wanted for segment in text.segments])
        tokens = replace(text.tokens, places=torch.arange(len(text)))
        return replace(text, tokens=tokens, scorable=text.scorable & own)

    def n_questions(self, tokens: Tokens) -> int:
        return 2

    def read(self, output: Any, batch: TokenBatch) -> Readout:
        if getattr(output, "start_logits", None) is None or getattr(output, "end_logits", None) is None:
            raise ValueError(
                "`model` gives no `start_logits` and `end_logits` of its own, which are what is explained."
            )
        own = precise(torch.stack([output.start_logits, output.end_logits], dim=1))
        places = batch.position_ids if batch.places is None else batch.places
        seq, n = own.shape[2], int(places.max()) + 1
        places = places.where(batch.attention_mask.bool(), torch.full_like(places, n))  # padding: a column of its own
        columns = torch.full((len(batch), n + 1), seq, device=own.device)
        columns = columns.scatter(1, places, torch.arange(seq, device=own.device).expand_as(places))[:, None, :n]
        with_none = torch.cat([own, torch.full_like(own[..., :1], -torch.inf)], dim=2)  # where there is no such token
        return Readout(with_none.gather(2, columns.expand(-1, 2, -1)), self.link)

    def marked_again(self, tokens: Tokens, anchors: TokenIds, choices: Sequence[int]) -> Tokens:
        first, last = choices if len(choices) == 2 else (-1, -1)
        at_last = START if first == last else END
        fits = 0 <= first <= last < len(tokens) and anchors[first] == START and anchors[last] == at_last
        if not fits or set(anchors.tolist()) - {0, FOIL, FOIL + 1} != {START, at_last}:
            raise ValueError(
                "`choices` must be the positions of the answer's first and last token, and `anchors` 1 and 2 there (1 "
                "where the answer has one token), and 0 elsewhere."
            )
        return replace(tokens, anchors=anchors, places=torch.arange(len(tokens)))

    def read_share(self, batch: TokenBatch) -> Float[Tensor, "batch seq"]:
        """Equal shares of the answer's first and last token."""
        anchors = anchors_of(batch)
        at = ((anchors == START) | (anchors == END)).float()
        return at / at.sum(dim=1, keepdim=True)

    def marked(self, text: EncodedText, readout: Readout, wanted: Any, foil: FoilLike | None) -> Marked:
        choices = self._span(text, readout, wanted, "predicted")
        anchors = {choices[1]: END, choices[0]: START}
        other = None
        if foil is not None:
            if not (isinstance(foil, str) and foil == "runner_up"):
                try:
                    other = self._span(text, readout, foil, "runner_up")
                except ValueError as error:
                    raise ValueError(str(error).replace("`target`", "`foil`")) from None
            else:
                other = self.best_span(text, readout, beside=choices)
            if other == choices:
                raise ValueError("`foil` is the target itself: name another span, or 'runner_up'.")
            anchors = {other[1]: FOIL + 1, other[0]: FOIL} | anchors
        return Marked(with_anchors(text, anchors), choices, other)

    def _span(self, text: EncodedText, readout: Readout, wanted: Any, predicted: str) -> list[int]:
        if isinstance(wanted, str) and wanted == predicted:
            return self.best_span(text, readout)
        found = self.tokens_of(text, wanted)
        return [found[0], found[-1]]

    def best_span(self, text: EncodedText, readout: Readout, beside: Sequence[int] | None = None) -> list[int]:
        """The first and the last position of the span in the context with the highest sum of its two logits.

        Args:
            beside: a span; only spans that share no token with it are considered.

        Raises:
            ValueError: when there is no such span.
        """
        context = torch.tensor(self.own_places(text), dtype=torch.int64)
        if beside is not None:
            context = context[(context < beside[0]) | (context > beside[1])]
        if not len(context):
            raise ValueError("`target`: the context has no token that could be the answer.")
        start, end = readout.logits[0][:, context]
        length = context - context[:, None] + 1  # rows begin a span, columns end it
        valid = (length > 0) & (length <= self.longest_answer)
        if beside is not None:
            valid &= (context[:, None] > beside[1]) | (context < beside[0])
        sums = (start[:, None] + end).masked_fill(~valid, -torch.inf)
        first, last = divmod(int(sums.argmax()), len(context))
        return [int(context[first]), int(context[last])]

    def predicted(self, text: EncodedText, readout: Readout) -> list[int]:
        return self.best_span(text, readout)

    def several_of(self, text: EncodedText, readout: Readout, wanted: Any) -> list[Any]:
        if isinstance(wanted, str):
            raise ValueError(
                f"`targets` {wanted!r}: a question has one answer; give a list of spans of the context, or `target`."
            )
        return list(wanted)

    def foil_index(self, foil: FoilLike) -> int:
        raise ValueError("A foil of an answer is marked in the text: give `foil` to the call, not to the method.")

    def marked_tokens(self, text: EncodedText) -> TokenMask:
        anchors = anchors_of(text.tokens)
        ends = ((anchors == START) | (anchors == END)).nonzero()[:, 0].tolist()
        return _between(text, ends[0], ends[-1])

    def describe(self, choices: Sequence[int], text: EncodedText) -> str:
        """The answer as it stands in the context: "answer 'Denver Broncos'"."""
        start, end = self.characters(text, _between(text, choices[0], choices[1]))
        return f"answer {self.source(text)[start:end]!r}"

    @property
    def n_marks(self) -> int:
        return 2

    def marks(self, batch: TokenBatch, target: Target) -> Marks:
        """The answer's first token, and its last one."""
        assert batch.places is not None
        same = batch.places[..., None] == target.choices[:, None, :2].to(batch.device)
        return same.float() * batch.attention_mask[..., None]

    def any_other(self, text: EncodedText, draw: torch.Generator) -> tuple[int, int]:
        context = self.own_places(text)
        first = int(torch.randint(len(context), (), generator=draw))
        more = int(torch.randint(min(3, len(context) - first), (), generator=draw))
        return self.characters(text, _between(text, context[first], context[first + more]))


def _between(text: EncodedText, first: int, last: int) -> TokenMask:
    """The tokens from one to another, both included."""
    places = torch.arange(len(text))
    return (places >= first) & (places <= last)
