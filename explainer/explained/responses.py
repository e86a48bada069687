"""Prompts and responses as texts to explain: chat templates, spans of the response, sources of the prompt."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import torch
from transformers import PreTrainedTokenizerBase

from explainer.explained.batch import EncodedText, Tokens, collate
from explainer.explained.model import ExplainedModel
from explainer.explained.passes import fitted, memory_for, token_budgeted
from explainer.explained.readout import Score, Target
from explainer.explained.tasks.language_model import MARKS, checked_messages
from explainer.explained.tasks.response import Response
from explainer.scored_text import word_numbers
from explainer.scored_text.units import unit_numbers, visible_span
from explainer.typing import TokenMask, TokenScores

SourceLevel = Literal["token", "word", "sentence", "paragraph", "message"]
"""What is scored, and taken away, as one."""

Sources = SourceLevel | Sequence[tuple[int, int, int]]
"""A level, or ranges of messages: (message, start, end) in characters of its content."""

Prompt = str | Sequence[Mapping[str, str]]
"""A string that the model continues, or messages (`role`, `content`) for the tokenizer's chat template."""


NEW_TOKENS = 128
"""The longest response that is generated, unless the caller says otherwise."""


@dataclass(frozen=True)
class Source:
    """A stretch of a message that is scored as one: the characters from `start` to `end` of its content.

    Attributes:
        text: these characters.
        message: the message's place in the list; 0 for a prompt string.
        tokens: the positions of its tokens.
    """

    text: str
    message: int
    start: int
    end: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ExplainedResponse:
    """A prompt, a response, and the part of the response that is explained.

    Attributes:
        text: prompt and response as the model reads them; the contents' own tokens are scorable, grouped as `units`.
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
    _check_level(sources)
    _check_one(span, token)
    rendered = _Rendered.of(explained, prompt)
    if response is None and token != "next":
        response = rendered.generated({"max_new_tokens": NEW_TOKENS, **(generate or {})})
    ids = () if response is None else rendered.ids_of(response, "response")
    given = response if isinstance(response, str) else None
    if token == "next":
        given = None  # the text has one more token
        ids += rendered.generated({"max_new_tokens": 1, **(generate or {})}, after=ids, keep_end=True)[:1]
        token = len(ids) - 1
    answered = rendered.answered(ids, given)
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
    contrasted = rendered.answered(other, foil if isinstance(foil, str) else None)
    against = contrasted.explained((0, len(other)), sources, score)
    return replace(item, foil=against)


def generate_responses(
    explained: ExplainedModel, prompts: Sequence[Prompt], generate: Mapping[str, Any] | None = None
) -> list[tuple[int, ...]]:
    """The tokens that the model answers to each of several prompts, generated in batches; () where it says nothing.

    Args:
        generate: settings of transformers' `generate`; by default it is greedy, of 128 tokens at most.

    Raises:
        ValueError: when a prompt cannot be written.
    """
    settings = {"max_new_tokens": NEW_TOKENS, **(generate or {})}
    rendered = [_Rendered.of(explained, prompt) for prompt in prompts]
    more, limit = int(settings["max_new_tokens"]), explained.text.max_tokens
    responses: list[tuple[int, ...]] = [()] * len(prompts)
    lengths = [len(one.ids) + more for one in rendered]
    full = [limit is not None and length > limit for length in lengths]  # these have less room than the others

    def run(chunk: list[int]) -> list[tuple[int, ...]]:
        if full[chunk[0]]:
            room = int(limit or 0) - len(rendered[chunk[0]].ids)
            return _continued(explained, [list(rendered[chunk[0]].ids)], {**settings, "max_new_tokens": room})
        return _continued(explained, [list(rendered[i].ids) for i in chunk], settings)

    kinds = [i if full[i] else -1 for i in range(len(prompts))]
    for chunk, made in fitted(token_budgeted(lengths, explained.batch_tokens, kinds), lengths, run, run):
        for i, said in zip(chunk, made, strict=True):
            responses[i] = _before_end(explained, said)
    return responses


@torch.no_grad()
def _continued(
    explained: ExplainedModel, contexts: Sequence[list[int]], settings: Mapping[str, Any]
) -> list[tuple[int, ...]]:
    """What the model says after each context, its end token and what is behind it included."""
    model, tokenizer = explained.model, explained.tokenizer
    batch = collate([Tokens(torch.tensor(ids)) for ids in contexts], pad_token_id=tokenizer.pad_token_id, side="left")
    batch = batch.to(explained.device)
    made = model.generate(  # type: ignore[operator]
        batch.input_ids,
        attention_mask=batch.attention_mask,
        **{"do_sample": False, "num_beams": 1, "pad_token_id": tokenizer.pad_token_id, **settings},
    )
    return [tuple(said) for said in made[:, batch.input_ids.shape[1] :].tolist()]


def _before_end(explained: ExplainedModel, said: tuple[int, ...]) -> tuple[int, ...]:
    """The tokens before the first one that ends a response."""
    config = explained.model.generation_config
    stated = config.eos_token_id if config is not None else None  # type: ignore[union-attr]
    ends = {*(stated if isinstance(stated, list) else [stated]), explained.tokenizer.eos_token_id}
    return tuple(itertools.takewhile(lambda token: token not in ends, said))


def sources_of(explained: ExplainedModel, prompt: Prompt, sources: Sources) -> tuple[Source, ...]:
    """The sources of a prompt, as `explain_response` has them; the model is not run.

    Raises:
        ValueError: when there is no such level or range, or the tokenizer cannot write these messages.
    """
    _check_level(sources)
    return tuple(_sources(_Rendered.of(explained, prompt), sources)[1])


@dataclass(frozen=True, eq=False)
class _Rendered:
    """A prompt as the model reads it, and where the contents of its messages are in it."""

    explained: ExplainedModel
    prompt: Prompt
    whole: str
    contents: tuple[str, ...]
    starts: tuple[int, ...]  # where character 0 of each content would stand in `whole`
    spans: tuple[tuple[int, int], ...]  # the characters of `whole` that are each content's
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    words: tuple[int | None, ...]
    added: tuple[bool, ...]

    @classmethod
    def of(cls, explained: ExplainedModel, prompt: Prompt) -> "_Rendered":
        tokenizer = explained.tokenizer
        contents: tuple[str, ...] = (prompt,) if isinstance(prompt, str) else ()
        starts: tuple[int, ...] = (0,)
        spans: tuple[tuple[int, int], ...] = ((0, len(prompt)),)
        if isinstance(prompt, str):
            whole = prompt
        else:
            messages = _checked(prompt)
            whole = _written(tokenizer, messages)
            contents = tuple(message["content"] for message in messages)
            found = [_found(tokenizer, messages, i, whole) for i in range(len(messages))]
            starts, spans = tuple(start for start, _ in found), tuple(place for _, place in found)
        encoding = _tokenized(tokenizer, whole, specials=isinstance(prompt, str))
        added = [bool(one) for one in encoding["special_tokens_mask"]]
        n = len(added)
        while n and added[n - 1] and isinstance(prompt, str):  # an end token would end what the response continues
            n -= 1
        if n == 0 and not added:
            raise ValueError("`prompt` has no tokens: the model continues nothing.")
        n = n or len(added)
        limit = explained.text.max_tokens
        if limit is not None and n >= limit:
            raise ValueError(
                f"`prompt` has {n} tokens, and the model takes {limit}, the response's included: shorten it."
            )
        return cls(
            explained,
            prompt,
            whole,
            contents,
            starts,
            spans,
            tuple(encoding["input_ids"][:n]),
            tuple((int(start), int(end)) for start, end in encoding["offset_mapping"][:n]),
            tuple(encoding.word_ids(0)[:n]),
            tuple(added[:n]),
        )

    def generated(
        self, settings: Mapping[str, Any], after: Sequence[int] = (), keep_end: bool = False
    ) -> tuple[int, ...]:
        """The tokens that the model says after the prompt, without its end token."""
        limit = self.explained.text.max_tokens
        context = [*self.ids, *after]
        if limit is not None:
            room = limit - len(context)
            if room < 1:
                raise ValueError(f"`prompt` and `response` have {len(context)} tokens, and the model takes {limit}.")
            settings = {**settings, "max_new_tokens": min(room, settings["max_new_tokens"])}
        with memory_for(f"`prompt` of {len(context)} tokens, with its response,"):
            (said,) = _continued(self.explained, [context], settings)
        kept = said if keep_end else _before_end(self.explained, said)
        if not kept:
            shown = self.explained.tokenizer.convert_ids_to_tokens(list(said))
            raise ValueError(f"The model's response is empty, its tokens are {shown}: give a `response`.")
        return kept

    def ids_of(self, response: str | Sequence[int], name: str) -> tuple[int, ...]:
        """The tokens of a response in its place after the prompt; given ids stay as they are."""
        tokenizer = self.explained.tokenizer
        if not isinstance(response, str):
            ids = tuple(int(token) for token in response)
            if unknown := [token for token in ids if not 0 <= token < self.explained.embedding.num_embeddings]:
                raise ValueError(f"`{name}` has the token id {unknown[0]}, which is not of the model's vocabulary.")
        else:
            both = _tokenized(tokenizer, self.whole + response, specials=isinstance(self.prompt, str))
            n = len(both["input_ids"])
            while n and both["special_tokens_mask"][n - 1] and isinstance(self.prompt, str) and n > len(self.ids):
                n -= 1
            own = tuple(both["input_ids"][:n])
            if own[: len(self.ids)] != self.ids:
                same = next(i for i, token in enumerate(self.ids) if own[i : i + 1] != (token,))
                joined, alone = (tokenizer.convert_ids_to_tokens(list(t[same:][:8])) for t in (own, self.ids))
                raise ValueError(
                    f"`{name}` {response[:40]!r} joins the end of the prompt: its tokens {alone} become {joined}. A "
                    "space between them belongs to the response, not to the prompt; or give the response as token ids."
                )
            ids = own[len(self.ids) :]
        if not ids:
            raise ValueError(f"`{name}` is empty, {response!r}: it has no token to explain.")
        limit = self.explained.text.max_tokens
        if limit is not None and len(self.ids) + len(ids) > limit:
            raise ValueError(
                f"`prompt` has {len(self.ids)} tokens and `{name}` {len(ids)}, and the model takes {limit} together."
            )
        return ids

    def answered(self, ids: Sequence[int], text: str | None) -> "_Answered":
        """The prompt with a response; `text` where it was given as text, whose characters spans count."""
        tokenizer = self.explained.tokenizer
        if text is not None:
            both = _tokenized(tokenizer, self.whole + text, specials=isinstance(self.prompt, str))
            begin, n = len(self.ids), len(self.whole)
            own = both["offset_mapping"][begin : begin + len(ids)]
            return _Answered(self, tuple(ids), text, tuple((max(a - n, 0), max(b - n, 0)) for a, b in own))
        return _Answered(self, tuple(ids), *_decoded(tokenizer, ids))


@dataclass(frozen=True, eq=False)
class _Answered:
    """A prompt with a response, and the characters of each of its tokens."""

    rendered: _Rendered
    ids: tuple[int, ...]
    response: str
    offsets: tuple[tuple[int, int], ...]

    def explained(self, span: tuple[int, int], level: Sources, score: Score) -> ExplainedResponse:
        """The text with the target marked and the prompt's tokens grouped to sources."""
        rendered = self.rendered
        encoder = rendered.explained.text
        numbers, sources = _sources(rendered, level)
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
        return ExplainedResponse(
            text=_anchored(text, more, span),
            prompt=rendered.prompt,
            response=self.response,
            response_ids=self.ids,
            offsets=self.offsets,
            span=span,
            characters=_characters(self.response, self.offsets, span),
            sources=tuple(sources),
            score=score,
        )


def _check_level(sources: Sources) -> None:
    if isinstance(sources, str) and sources not in get_args(SourceLevel):
        raise ValueError(f"`sources` must be one of {', '.join(get_args(SourceLevel))}, got {sources!r}.")


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
    anchors = torch.zeros(len(text), dtype=torch.int64)
    first = len(text) - n_response
    anchors[first + span[0] : first + span[1]] = torch.arange(1, span[1] - span[0] + 1)
    return replace(text, tokens=replace(text.tokens, anchors=anchors))


# Messages


def _checked(messages: Any) -> list[dict[str, str]]:
    checked = checked_messages(list(messages) if isinstance(messages, Sequence) else messages)
    if any(mark in message["content"] for message in checked for mark in MARKS):
        raise ValueError("`messages` hold a private character (U+E000 or U+E001), which marks where a content is.")
    return checked


def _written(tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]]) -> str:
    """The messages by the tokenizer's chat template, up to where the response begins."""
    if not tokenizer.chat_template:
        raise ValueError(
            f"`messages` need a tokenizer with a chat template, and {type(tokenizer).__name__} has none: give a "
            "`prompt` string instead."
        )
    begun = messages[-1]["role"] == "assistant"
    how: dict[str, Any] = {"continue_final_message": True} if begun else {"add_generation_prompt": True}
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **how))
    except Exception as error:  # a template raises errors of its own, and those of jinja2
        roles = [message["role"] for message in messages]
        raise ValueError(
            f"The chat template of the tokenizer refuses the `messages`, whose roles are {roles}: {error}"
        ) from error


def _found(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict[str, str]], i: int, whole: str
) -> tuple[int, tuple[int, int]]:
    """Where the content of message `i` begins in the written messages, and the characters of it that are there.

    The template writes the message once more between two marks; templates that trim contents get a trimmed one.
    """
    content = messages[i]["content"]
    for candidate in dict.fromkeys((content, content.strip(), content.rstrip(), content.lstrip())):
        marked = list(messages)
        marked[i] = {**messages[i], "content": f"{MARKS[0]}{candidate}{MARKS[1]}"}
        text = _written(tokenizer, marked)
        if all(text.count(mark) == 1 for mark in MARKS) and _without_marks(text) == whole:
            start, end = text.index(MARKS[0]), text.index(MARKS[1]) - 1
            if whole[start:end] == candidate:
                return start - content.index(candidate), (start, end)
    raise ValueError(
        f"The chat template of the tokenizer does not write the content of `messages[{i}]` as it is, once: "
        f"{content!r:.80} in {whole!r:.400}. Give a `prompt` string instead."
    )


def _without_marks(text: str) -> str:
    return text.replace(MARKS[0], "").replace(MARKS[1], "")


# Sources


def _owner(rendered: _Rendered, token: tuple[int, int]) -> int | None:
    """The message that has a visible character of this token, or all of its white space."""
    start, end = visible_span(rendered.whole, *token)
    for message, (first, last) in enumerate(rendered.spans):
        if max(start, first) < min(end, last) or (start == end and first < start < last):
            return message
    return None


def _sources(rendered: _Rendered, wanted: Sources) -> tuple[list[int], list[Source]]:
    """The number of each prompt token's source, -1 for those that are of none; and the sources in their order."""
    specials = frozenset(rendered.explained.text.special_ids.tolist())
    owners = [
        None if added or token in specials else _owner(rendered, place)
        for token, place, added in zip(rendered.ids, rendered.offsets, rendered.added, strict=True)
    ]
    numbers = [-1] * len(owners)
    sources = [] if isinstance(wanted, str) else [_given(rendered, i, one) for i, one in enumerate(wanted)]
    for message, content in enumerate(rendered.contents):
        own = [i for i, owner in enumerate(owners) if owner == message]
        places = [_within(rendered, message, rendered.offsets[i]) for i in own]
        groups: dict[int, list[int]] = {}
        if isinstance(wanted, str):
            for k, group in enumerate(_groups(rendered, content, places, [rendered.words[i] for i in own], wanted)):
                groups.setdefault(group, []).append(k)
            for members in groups.values():
                for k in members:
                    numbers[own[k]] = len(sources)
                # Trimmed, but never past a token of white space: each token has characters of its source.
                first = visible_span(content, *places[members[0]])[0]
                last = visible_span(content, *places[members[-1]])[1]
                sources.append(Source(content[first:last], message, first, last, tuple(own[k] for k in members)))
            continue
        mine = [k for k, source in enumerate(sources) if source.message == message]
        ranges = [(sources[k].start, sources[k].end) for k in mine]
        for i, group in zip(own, unit_numbers(content, places, [True] * len(own), [0] * len(own), ranges), strict=True):
            numbers[i] = mine[group] if group >= 0 else -1
    if not isinstance(wanted, str):
        of_each: list[list[int]] = [[] for _ in sources]
        for i, number in enumerate(numbers):
            if number >= 0:
                of_each[number].append(i)
        sources = [replace(source, tokens=tuple(own)) for source, own in zip(sources, of_each, strict=True)]
    return numbers, sources


def _within(rendered: _Rendered, message: int, token: tuple[int, int]) -> tuple[int, int]:
    """The token's characters of a message, counted in its content."""
    (low, high), start = rendered.spans[message], rendered.starts[message]
    first, last = (min(max(place, low), high) - start for place in token)
    return first, last


def _given(rendered: _Rendered, place: int, wanted: tuple[int, int, int]) -> Source:
    message, start, end = wanted
    if not 0 <= message < len(rendered.contents) or not 0 <= start < end <= len(rendered.contents[message]):
        sizes = [len(content) for content in rendered.contents]
        raise ValueError(
            f"`sources[{place}]` must be (message, start, end) of messages that have {sizes} characters, got {wanted}."
        )
    return Source(rendered.contents[message][start:end], message, start, end, ())


def _groups(
    rendered: _Rendered,
    content: str,
    places: Sequence[tuple[int, int]],
    words: Sequence[int | None],
    level: SourceLevel,
) -> Sequence[int]:
    """The number of the source of each token of one message."""
    n = len(places)
    if level == "message":
        return [0] * n
    everywhere, segments = [True] * n, (0,) * n
    if level == "token":  # the pieces of one character are one source
        groups: list[int] = []
        reached = 0
        for start, end in places:
            last = groups[-1] if groups else -1
            groups.append(last + 1 if last < 0 or reached <= start < end else last)
            reached = max(reached, end)
        return groups
    splits = rendered.explained.text.splits_unspaced
    of_words = word_numbers([content], segments, places, everywhere, words, splits_unspaced=splits)
    return unit_numbers(content, places, everywhere, segments, level, words=of_words)


# Tokens and characters


def _tokenized(tokenizer: PreTrainedTokenizerBase, text: str, specials: bool) -> Any:
    return tokenizer(
        text,
        add_special_tokens=specials,  # a chat template writes its own
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        verbose=False,
    )


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The text of some tokens, and the characters of each; a piece of a character has that character."""
    texts = [_text(tokenizer, ids[:n]) for n in range(len(ids) + 1)]
    whole = texts[-1]
    reached = [_common(text, whole) for text in texts]
    offsets = []
    for before, after, text in zip(reached, reached[1:], texts[1:], strict=False):
        partial = after < len(text) and after < len(whole)  # what is shown behind is no character of the whole yet
        end = after + 1 if partial else after
        offsets.append((min(before, end), end))
    return whole, tuple(offsets)


def _text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def _common(one: str, other: str) -> int:
    """The number of characters with which both begin."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))


def _occurrences(text: str, part: str) -> list[int]:
    if not part:
        return []
    return [i for i in range(len(text) - len(part) + 1) if text.startswith(part, i)]
