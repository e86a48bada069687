"""Responses as texts to explain: the span of a response that is explained, and the sources of its prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch

from explainer.explained.batch import EncodedText, Tokens
from explainer.explained.model import ExplainedModel
from explainer.explained.prompt import (
    NEW_TOKENS,
    Prompt,
    RenderedPrompt,
    decoded,
    is_seq2seq,
    response_tokens,
    tokenized,
)
from explainer.explained.readout import Score, Target
from explainer.explained.sources import Source, Sources, check_level, grouped
from explainer.explained.tasks.response import Response
from explainer.scored_text import word_numbers
from explainer.scored_text.units import visible_span
from explainer.typing import TokenMask, TokenScores


@dataclass(frozen=True, eq=False)
class ExplainedResponse:
    """A prompt, a response, and the part of the response that is explained.

    Attributes:
        text: prompt and response as the model reads them; the contents' own tokens are scorable, grouped as `units`. Of
            an encoder-decoder the prompt, with the response as `Tokens.decoder`.
        prompt: the messages or the string.
        response: the response's text.
        response_ids: its tokens, as generated or as given.
        offsets: (start, end) characters of each of them in `response`.
        span: (first, last + 1) of the target among the response's tokens.
        characters: (start, end) of the target in `response`.
        sources: what is scored; disjoint.
        foil: the same prompt with another response, whose log-probability is subtracted.
        score: `logit` or `log_prob`, summed over the target's tokens.
    """

    text: EncodedText
    prompt: Prompt
    response: str
    response_ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    span: tuple[int, int]
    characters: tuple[int, int]
    sources: tuple[Source, ...]
    foil: "ExplainedResponse | None" = None
    score: Score = "logit"

    @property
    def target_ids(self) -> tuple[int, ...]:
        """The tokens of the target."""
        return self.response_ids[slice(*self.span)]

    @property
    def target(self) -> Target:
        """The target (1, questions) of `text`, without the foil."""
        return Target(torch.tensor([self.target_ids]), score=self.score)

    @cached_property
    def source_masks(self) -> list[TokenMask]:
        """The tokens of each source."""
        masks = [torch.zeros(len(self.text), dtype=torch.bool) for _ in self.sources]
        for mask, source in zip(masks, self.sources, strict=True):
            mask[list(source.tokens)] = True
        return masks

    def source_scores(self, scores: TokenScores) -> list[float]:
        """The score of each source: the sum of its tokens'."""
        return [float(scores[mask].double().sum()) for mask in self.source_masks]

    def with_target(
        self, span: tuple[int, int] | str | None = None, token: int | tuple[int, int] | None = None
    ) -> "ExplainedResponse":
        """The same prompt and response with another part explained; with neither argument, the whole response.

        Args:
            span: characters (start, end) of the response, or a substring that occurs once.
            token: the number of a token, or a range (first, last + 1).

        Raises:
            ValueError: when the response has no such part.
        """
        _check_one(span, token)
        chosen = _chosen(self.response, self.offsets, span, token)
        return replace(
            self,
            text=_anchored(self.text, len(self.response_ids), chosen),
            span=chosen,
            characters=_characters(self.response, self.offsets, chosen),
        )

    def each_token(self) -> "list[ExplainedResponse]":
        """One for each token of the target, without the foil: the rows of a (target x source) matrix."""
        return [replace(self.with_target(token=k), foil=None) for k in range(*self.span)]


def responses_target(responses: Sequence[ExplainedResponse]) -> Target:
    """The target of several responses' texts, one row each; shorter ones are filled up.

    Raises:
        ValueError: when they do not share a score.
    """
    if len({one.score for one in responses}) > 1:
        raise ValueError("`responses` must share one `score`.")
    return Target.joined([one.target for one in responses])


def explain_response(
    explained: ExplainedModel,
    prompt: Prompt,
    response: str | Sequence[int] | None = None,
    *,
    span: tuple[int, int] | str | None = None,
    token: int | tuple[int, int] | Literal["next"] | None = None,
    foil: str | Sequence[int] | None = None,
    score: Score | None = None,
    sources: Sources = "token",
    generate: Mapping[str, Any] | None = None,
) -> ExplainedResponse:
    """What is explained of a response to a prompt, as a text and a target for any method.

    Args:
        explained: a model with the task `Response`.
        prompt: a string that the model continues, or messages for its chat template.
        response: the response's text, or its token ids as generated; None: the model generates it.
        span: the part of the response that is explained: characters (start, end), or a substring that occurs once.
        token: instead of a span: the number of one token of the response (negative ones count from its end), a range
            (first, last + 1) of them, or "next": the token that the model would say next.
        foil: another whole response; the explained number is the target's less the foil's.
        score: `logit` or `log_prob` of the target's tokens, summed; by default `logit`, with a foil `log_prob`.
        sources: what is scored as one: token, word, sentence, paragraph or message, or ranges (message, start, end).
        generate: settings of transformers' `generate`; by default it is greedy, of 128 tokens at most.

    Raises:
        ValueError: when the response is empty or too long, the span is none, the foil is the target, or the tokenizer
            cannot write these messages.
    """
    if not isinstance(explained.task, Response):
        raise ValueError(f"`explained` must have the task `Response`, got {type(explained.task).__name__}.")
    check_level(sources)
    _check_one(span, token)
    rendered = RenderedPrompt.of(explained, prompt)
    if response is None and token != "next":
        response = rendered.generated({"max_new_tokens": NEW_TOKENS, **(generate or {})})
    ids = () if response is None else rendered.ids_of(response, "response")
    given = response if isinstance(response, str) else None
    if token == "next":
        given = None  # the text has one more token
        ids += rendered.generated({"max_new_tokens": 1, **(generate or {})}, after=ids, keep_end=True)[:1]
        token = len(ids) - 1
    answered = _answered(rendered, ids, given)
    chosen = _chosen(answered.response, answered.offsets, span, token)
    score = score or ("logit" if foil is None else "log_prob")
    if score not in ("logit", "log_prob"):
        raise ValueError(f"`score` of a response must be logit or log_prob, got {score!r}.")
    item = answered.explained(chosen, sources, score)
    if foil is None:
        return item
    if score != "log_prob":
        raise ValueError(
            "`score` must be log_prob where there is a `foil`: logits of two continuations have no common scale."
        )
    other = rendered.ids_of(foil, "foil")
    if not other:
        raise ValueError("`foil` is empty: give another response.")
    if other == tuple(ids):
        shown = explained.tokenizer.convert_ids_to_tokens(list(other))
        raise ValueError(f"`foil` is the response itself, the tokens {shown}: give another response.")
    contrasted = _answered(rendered, other, foil if isinstance(foil, str) else None)
    against = contrasted.explained((0, len(other)), sources, score)
    return replace(item, foil=against)


@dataclass(frozen=True, eq=False)
class _Answered:
    """A prompt with a response, and the characters of each of its tokens."""

    rendered: RenderedPrompt
    ids: tuple[int, ...]
    response: str
    offsets: tuple[tuple[int, int], ...]

    def explained(self, span: tuple[int, int], level: Sources, score: Score) -> ExplainedResponse:
        """The text with the target marked and the prompt's tokens grouped to sources."""
        rendered = self.rendered
        encoder = rendered.explained.text
        numbers, sources = grouped(rendered, level)
        if is_seq2seq(rendered.explained):
            return self._read_by_decoder(span, numbers, sources, score)
        n, more = len(rendered.ids), len(self.ids)
        ids = torch.tensor([*rendered.ids, *self.ids])
        typed = "token_type_ids" in encoder.tokenizer.model_input_names
        scorable = torch.tensor([*(number >= 0 for number in numbers), *[False] * more])
        offsets = (*rendered.offsets, *((a + len(rendered.whole), b + len(rendered.whole)) for a, b in self.offsets))
        segments = (0,) * (n + more)
        whole = rendered.whole + self.response
        text = EncodedText(
            text=whole,
            text_pair=None,
            tokens=Tokens(ids, torch.zeros_like(ids) if typed else None),
            scorable=scorable,
            offsets=offsets,
            words=word_numbers(
                [whole],
                segments,
                offsets,
                scorable.tolist(),
                [*rendered.words, *[None] * more],
                splits_unspaced=encoder.splits_unspaced,
            ),
            segments=segments,
            units=(*numbers, *[-1] * more),
        )
        return self._asked(text, span, sources, score)

    def _read_by_decoder(
        self, span: tuple[int, int], numbers: Sequence[int], sources: Sequence[Source], score: Score
    ) -> ExplainedResponse:
        """The same where an encoder reads the prompt and a decoder the response."""
        rendered, segments = self.rendered, (0,) * len(self.rendered.ids)
        scorable = torch.tensor([number >= 0 for number in numbers])
        response = torch.tensor(self.ids)
        text = EncodedText(
            text=rendered.whole,
            text_pair=None,
            tokens=Tokens(torch.tensor(rendered.ids), decoder=torch.stack([response, torch.zeros_like(response)])),
            scorable=scorable,
            offsets=rendered.offsets,
            words=word_numbers(
                [rendered.whole],
                segments,
                rendered.offsets,
                scorable.tolist(),
                rendered.words,
                splits_unspaced=rendered.explained.text.splits_unspaced,
            ),
            segments=segments,
            units=tuple(numbers),
        )
        return self._asked(text, span, sources, score)

    def _asked(
        self, text: EncodedText, span: tuple[int, int], sources: Sequence[Source], score: Score
    ) -> ExplainedResponse:
        rendered = self.rendered
        return ExplainedResponse(
            text=_anchored(text, len(self.ids), span),
            prompt=rendered.prompt,
            response=self.response,
            response_ids=self.ids,
            offsets=self.offsets,
            span=span,
            characters=_characters(self.response, self.offsets, span),
            sources=tuple(sources),
            score=score,
        )


def _answered(rendered: RenderedPrompt, ids: Sequence[int], text: str | None) -> _Answered:
    """The prompt with a response; `text` where it was given as text, whose characters spans count."""
    tokenizer = rendered.explained.tokenizer
    if text is not None and is_seq2seq(rendered.explained):
        own = response_tokens(tokenizer, text)["offset_mapping"]
        return _Answered(rendered, tuple(ids), text, tuple((int(a), int(b)) for a, b in own))
    if text is not None:
        both = tokenized(tokenizer, rendered.whole + text, specials=isinstance(rendered.prompt, str))
        begin, n = len(rendered.ids), len(rendered.whole)
        own = both["offset_mapping"][begin : begin + len(ids)]
        return _Answered(rendered, tuple(ids), text, tuple((max(a - n, 0), max(b - n, 0)) for a, b in own))
    return _Answered(rendered, tuple(ids), *decoded(tokenizer, ids))


def _check_one(span: Any, token: Any) -> None:
    if span is not None and token is not None:
        raise ValueError("Give a `span` or a `token` of the response, not both.")


def _chosen(
    response: str,
    offsets: Sequence[tuple[int, int]],
    span: tuple[int, int] | str | None,
    token: int | tuple[int, int] | str | None,
) -> tuple[int, int]:
    """The tokens (first, last + 1) that a span has characters of; all of them without one."""
    n, shown = len(offsets), f"{response!r:.200}"
    if token is not None and not isinstance(token, str):
        first, last = (token % n, token % n + 1) if isinstance(token, int) and -n <= token < n else (-1, -1)
        first, last = token if isinstance(token, tuple) else (first, last)
        if not 0 <= first < last <= n:
            pieces = [response[start:end] for start, end in offsets]
            raise ValueError(
                f"`token` must be below {n}, the number of the response's tokens {pieces}, or a range of them, got "
                f"{token}."
            )
        return first, last
    if span is None:
        return 0, n
    if isinstance(span, str):
        places = _occurrences(response, span)
        if len(places) != 1:
            where = f" (at the characters {places})" if places else ""
            raise ValueError(
                f"`span` {span!r:.80} occurs {len(places)} times{where} in the response {shown}, and must occur "
                "once: give characters (start, end)."
            )
        span = (places[0], places[0] + len(span))
    start, end = span
    if not 0 <= start < end <= len(response):
        raise ValueError(
            f"`span` must be characters (start, end) of the response, which has {len(response)}: {shown}; got "
            f"{(start, end)}."
        )
    inside = [i for i, (a, b) in enumerate(offsets) if max(a, start) < min(b, end) or (a == b and start <= a < end)]
    if not inside:
        raise ValueError(f"`span` {(start, end)} holds no token of the response: {response[start:end]!r}.")
    return inside[0], inside[-1] + 1


def _characters(response: str, offsets: Sequence[tuple[int, int]], span: tuple[int, int]) -> tuple[int, int]:
    """The characters of some tokens of the response, without white space around them."""
    inside = offsets[slice(*span)]
    return visible_span(response, min(a for a, _ in inside), max(b for _, b in inside))


def _anchored(text: EncodedText, n_response: int, span: tuple[int, int]) -> EncodedText:
    """The text with some tokens of the response, which stands at its end, marked as the target."""
    numbers = torch.arange(1, span[1] - span[0] + 1)
    if text.tokens.decoder is not None:
        decoder = text.tokens.decoder.clone()
        decoder[1] = 0
        decoder[1, slice(*span)] = numbers
        return replace(text, tokens=replace(text.tokens, decoder=decoder))
    anchors = torch.zeros(len(text), dtype=torch.int64)
    first = len(text) - n_response
    anchors[first + span[0] : first + span[1]] = numbers
    return replace(text, tokens=replace(text.tokens, anchors=anchors))


def _occurrences(text: str, part: str) -> list[int]:
    if not part:
        return []
    return [i for i in range(len(text) - len(part) + 1) if text.startswith(part, i)]
