"""The explanation of a response: the scores of the prompt's sources for the response, or for a part of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import ExplainedResponse, Source
from explainer.explained.prompt import Prompt
from explainer.explained.sources import SourceLevel, Sources
from explainer.explanation.text import number
from explainer.rendering import Message, ResponseView, Stretch, TokenTable
from explainer.rendering.response_layout import MAX_WORDS

MAX_PASSES = 2000
"""The most passes of the model that a matrix takes unless the caller says otherwise."""

UNITS = {"logit": "logits", "log_prob": "nats"}
"""The unit of the explained number."""


@dataclass(frozen=True)
class ResponseTrust:
    """The measured fall of the target's log-probability when sources are deleted from the prompt, in nats.

    With a foil the numbers are those of the difference of the two log-probabilities.

    Attributes:
        k: the number of sources that are deleted: the highest fifth, and at least one.
        n_sources: all sources.
        drop: without the k highest.
        random: without k random ones, the mean of several draws.
        everything: without any source.
        n_tokens: of the target.
    """

    k: int
    n_sources: int
    drop: float
    random: float
    everything: float
    n_tokens: int

    @property
    def per_token(self) -> float:
        """`drop` per token of the target."""
        return self.drop / self.n_tokens

    @property
    def share(self) -> float | None:
        """`drop` as a share of `everything`; None where the prompt as a whole makes the target no more probable."""
        return self.drop / self.everything if self.everything > 0 else None

    def record(self) -> dict[str, Any]:
        """The numbers as JSON."""
        return {**asdict(self), "per_token": self.per_token, "share": self.share}


class ScoredSource(NamedTuple):
    """The characters from `start` to `end` of a message's content, and their score.

    `message` is the message's place in the prompt, 0 for a prompt that is a string.
    """

    text: str
    message: int
    start: int
    end: int
    score: float


class SourceScores(tuple[ScoredSource, ...]):
    """Scored sources in the order of the prompt."""

    def top(self, k: int = 3) -> "SourceScores":
        """The k sources of the highest scores, the highest first."""
        return SourceScores(sorted(self, key=lambda source: -source.score)[:k])


@dataclass(frozen=True, eq=False)
class ResponseMatrix:
    """The scores of every source for every token of a response.

    Attributes:
        scores: one row per token of the response. The rows of a span's tokens sum to the span's scores where the method
            is linear in the explained number (gradients, relevance, leaving out with log-probabilities).
        log_probabilities: of the tokens, in nats.
        sources: of the columns.
        tokens: the tokenizer's names of the rows.
    """

    scores: Float[Tensor, "tokens sources"]
    log_probabilities: Float[Tensor, " tokens"]
    sources: tuple[Source, ...]
    tokens: tuple[str, ...]

    def grouped(self, groups: Sequence[Sequence[int]]) -> Float[Tensor, "tokens groups"]:
        """The scores summed over groups of columns."""
        columns = [self.scores[:, list(group)].sum(dim=1) for group in groups]
        return torch.stack(columns, dim=1) if columns else self.scores[:, :0]


@runtime_checkable
class AsksAgain(Protocol):
    """The part of an attributor by which an explanation asks on."""

    def explain(self, asked: Sequence[ExplainedResponse], *, trust: bool = False) -> "list[ResponseExplanation]":
        """The explanations of responses that are read already."""

    def sources_of(self, prompt: Prompt, level: Sources) -> tuple[Source, ...]:
        """The sources of a prompt."""

    def passes(self, asked: ExplainedResponse) -> float:
        """The passes of the model that one explanation takes."""


@dataclass(frozen=True, eq=False)
class ResponseExplanation:
    """Scores of the prompt's sources for a response of a language model, or for a part of it.

    Attributes:
        asked: the prompt, the response and its explained part.
        scores: of the sources, in their order.
        log_probability: ln p of the target after the prompt and the response before it, in nats, without the foil.
        tokens: the tokenizer's names of the response's tokens.
        method: name of the method.
        level: what was scored as one: a level, or the ranges that were given.
        operator: how the method takes sources away; None where it takes none away.
        relative: whether only the scores' proportions mean something, as of a trained explainer.
        trust: the measured fall without the highest sources, where that was asked for.
        attributor: what explained it, and explains other spans; a copy that was pickled has none.
    """

    asked: ExplainedResponse
    scores: tuple[float, ...]
    log_probability: float
    tokens: tuple[str, ...]
    method: str
    level: Sources = "token"
    operator: str | None = None
    relative: bool = False
    trust: ResponseTrust | None = None
    attributor: AsksAgain | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "attributor": None}

    def __repr__(self) -> str:
        part = self.response[slice(*self.asked.characters)]
        return f"ResponseExplanation({part!r}, {self.method}, top={list(self.sources().top(3))})"

    # What was asked

    @property
    def prompt(self) -> Prompt:
        """The messages, or the string."""
        return self.asked.prompt

    @property
    def response(self) -> str:
        """The response's text."""
        return self.asked.response

    @property
    def response_ids(self) -> tuple[int, ...]:
        """The response's tokens, which another call takes as `response`."""
        return self.asked.response_ids

    @property
    def target_tokens(self) -> list[str]:
        """The tokenizer's names of the tokens that are explained."""
        return list(self.tokens[slice(*self.asked.span)])

    # Other parts, other sources

    def span(self, span: tuple[int, int] | str) -> "ResponseExplanation":
        """The explanation of another part of the same response, which is not generated again.

        Args:
            span: characters (start, end) of the response, or a substring that occurs once.

        Raises:
            ValueError: when the response has no such part, or this explanation has no attributor (it was pickled).
        """
        return self._again(self.asked.with_target(span=span))

    def token(self, token: int | tuple[int, int]) -> "ResponseExplanation":
        """The same for one token by its number (negative ones count from the end), or a range (first, last + 1)."""
        return self._again(self.asked.with_target(token=token))

    def sources(self, level: SourceLevel | None = None) -> SourceScores:
        """The sources with their scores; those of a coarser level have the sums of the scores inside them.

        Args:
            level: word, sentence, paragraph or message; None: as they were scored.

        Raises:
            ValueError: when the level is finer than what was scored: that is another question to the method.
        """
        if level is None or level == self.level:
            return SourceScores(map(_scored, self.asked.sources, self.scores))
        coarse, groups = self._grouped(level)
        return SourceScores(
            _scored(source, sum(self.scores[i] for i in group)) for source, group in zip(coarse, groups, strict=True)
        )

    def matrix(self, max_passes: int = MAX_PASSES) -> ResponseMatrix:
        """The scores of every source for every token of the response, each token explained by itself.

        Args:
            max_passes: the most passes of the model that this may take.

        Raises:
            ValueError: when it would take more, when there is a foil (whose tokens are others), or this explanation has
                no attributor (it was pickled).
        """
        if self.asked.foil is not None:
            raise ValueError(
                "`matrix` has a row per token of the response, and a `foil` belongs to no single token: explain the "
                "response without it."
            )
        rows = self.asked.with_target().each_token()
        attributor = self._attributor("matrix")
        passes = len(rows) * attributor.passes(self.asked)
        if passes > max_passes:
            raise ValueError(
                f"`matrix` of {len(rows)} tokens takes about {passes:,.0f} passes of the model by {self.method!r}, "
                f"more than `max_passes={max_passes:,}`: take coarser `sources`, a method of fewer passes "
                "(`attn_lrp`), a shorter response, or a higher limit."
            )
        found = attributor.explain(rows)
        return ResponseMatrix(
            scores=torch.tensor([one.scores for one in found], dtype=torch.float64).view(len(rows), len(self.scores)),
            log_probabilities=torch.tensor([one.log_probability for one in found], dtype=torch.float64),
            sources=self.asked.sources,
            tokens=self.tokens,
        )

    def _again(self, asked: ExplainedResponse) -> "ResponseExplanation":
        (one,) = self._attributor("span").explain([asked], trust=self.trust is not None)
        return replace(one, level=self.level)

    def _attributor(self, wanted: str) -> AsksAgain:
        if self.attributor is None:
            raise ValueError(
                f"`{wanted}` asks the attributor again, and a pickled explanation has none: call the attributor with "
                "this `prompt` and `response=explanation.response_ids`."
            )
        return self.attributor

    def _grouped(self, level: SourceLevel) -> tuple[list[Source], list[list[int]]]:
        """The sources of a coarser level, and the numbers of the scored sources in each."""
        if level not in get_args(SourceLevel):
            raise ValueError(f"`level` must be one of {', '.join(get_args(SourceLevel))}, got {level!r}.")
        coarse = self._attributor("sources").sources_of(self.prompt, level)
        owner = {token: k for k, source in enumerate(coarse) for token in source.tokens}
        groups: list[list[int]] = [[] for _ in coarse]
        for i, source in enumerate(self.asked.sources):
            owners = {owner.get(token) for token in self._visible(source)}
            if len(owners) != 1 or None in owners:
                raise ValueError(
                    f"`level` {level!r} is finer than what was scored ({self._level_name}), such as "
                    f"{source.text!r:.60}: call the attributor with `sources={level!r}` and "
                    "`response=explanation.response_ids`."
                )
            groups[owners.pop() or 0].append(i)
        kept = [k for k, group in enumerate(groups) if group]
        return [coarse[k] for k in kept], [groups[k] for k in kept]

    def _visible(self, source: Source) -> list[int]:
        """The tokens of a source that show something: white space at its edges may lie in another sentence."""
        text = self.asked.text
        seen = [token for token in source.tokens if text.text[slice(*text.offsets[token])].strip()]
        return seen or list(source.tokens)

    @property
    def _level_name(self) -> str:
        return self.level if isinstance(self.level, str) else "range"

    # The record

    def record(self) -> dict[str, Any]:
        """The JSON-able record that `explainer attribute --task response` writes, without its id.

        It has `trust` where that was asked for.
        """
        record = {
            "response": self.response,
            "span": list(self.asked.characters),
            "target_tokens": self.target_tokens,
            "log_probability": self.log_probability,
            "sources": [source._asdict() for source in self.sources()],
            "contract": self.contract,
            "method": self.method,
        }
        return record if self.trust is None else {**record, "trust": self.trust.record()}

    @property
    def contract(self) -> dict[str, Any]:
        """What the scores are of, as JSON: everything that has to be the same for them to mean the same."""
        asked = self.asked
        prompt = asked.prompt
        contract: dict[str, Any] = {"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}
        contract |= {
            "response_ids": list(asked.response_ids),
            "target": list(asked.span),
            "target_ids": list(asked.target_ids),
            "score": asked.score,
            "units": "relative" if self.relative else UNITS[asked.score],
            "sources": self.level if isinstance(self.level, str) else "given",
            "eligible": "the tokens of the prompt's contents"
            if isinstance(self.level, str)
            else "the tokens of the given ranges",
            "held_fixed": "the response's tokens and the template's",
            "operator": self.operator,
        }
        if asked.foil is not None:
            contract |= {"foil": asked.foil.response, "foil_ids": list(asked.foil.response_ids)}
        return contract

    # Showing it

    def view(
        self,
        level: SourceLevel | None = None,
        *,
        matrix: ResponseMatrix | None = None,
        max_words: int | None = MAX_WORDS,
    ) -> ResponseView:
        """What can be shown anywhere.

        Args:
            level: what has one colour; by default what was scored, or words where tokens were.
            matrix: lets a reader of the page pick another part of the response.
            max_words: a longer prompt is folded to windows around its strongest sources; None shows all of it.
        """
        asked = self.asked
        if level is None and self.level == "token" and self.attributor is not None:
            level = "word"
        if level is None or level == self.level:
            groups = [[i] for i in range(len(self.scores))]
        else:
            groups = self._grouped(level)[1]
        shown = self.sources(level)
        prompt = asked.prompt
        messages = (
            [("prompt", prompt)] if isinstance(prompt, str) else [(one["role"], one["content"]) for one in prompt]
        )
        return ResponseView(
            messages=tuple(Message(*message) for message in messages),
            sources=tuple(Stretch(one.message, one.start, one.end, one.score) for one in shown),
            response=asked.response,
            offsets=asked.offsets,
            span=asked.span,
            headline=self._headline,
            facts=tuple(self._facts),
            level=level or self._level_name,
            table=None
            if matrix is None
            else TokenTable(matrix.grouped(groups).numpy(), matrix.log_probabilities.numpy()),
            max_words=max_words,
        )

    @property
    def _headline(self) -> str:
        n, all_tokens = len(self.asked.target_ids), len(self.asked.response_ids)
        count = f"all {n} tokens" if n == all_tokens else f"{n} of {all_tokens} tokens"
        return f"log-probability {number(self.log_probability).replace('-', '−')} nats, {count}"

    @property
    def _facts(self) -> list[str]:
        facts = [f"by {self.method}"]
        if self.asked.foil is not None:
            facts.append(f"rather than {' '.join(self.asked.foil.response.split())!r:.80}")
        if (trust := self.trust) is not None:
            what = self._level_name if self.level != "token" else "token"
            fall, chance, everything = (number(-value) for value in (trust.drop, trust.random, trust.everything))
            facts.append(
                f"without the top {trust.k} of {trust.n_sources} {what}s: {fall} nats (random {trust.k}: {chance}; "
                f"all: {everything})".replace("-", "−")
            )
        return facts

    def show(self, width: int | None = None, **options: Any) -> None:
        """Print in colour; `width` in columns, options as of `view`."""
        self.view(**options).show(width)

    def to_html(self, path: str | Path, **options: Any) -> None:
        """Write a page that opens offline; options as of `view`. With `matrix=explanation.matrix()` one picks spans."""
        self.view(**options).to_html(path)

    def _repr_html_(self) -> str:
        return self.view()._repr_html_()

    def __rich__(self) -> ResponseView:
        return self.view()


def _scored(source: Source, score: float) -> ScoredSource:
    return ScoredSource(source.text, source.message, source.start, source.end, score)
