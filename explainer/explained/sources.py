"""The sources of a prompt: its stretches that are scored, and taken away, as one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from explainer.explained.model import ExplainedModel
from explainer.explained.prompt import Prompt, RenderedPrompt
from explainer.scored_text import word_numbers
from explainer.scored_text.units import unit_numbers, visible_span

SourceLevel = Literal["token", "word", "sentence", "paragraph", "message"]
"""What is scored, and taken away, as one."""


Sources = SourceLevel | Sequence[tuple[int, int, int]]
"""A level, or ranges of messages: (message, start, end) in characters of its content."""


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


def sources_of(explained: ExplainedModel, prompt: Prompt, sources: Sources) -> tuple[Source, ...]:
    """The sources of a prompt, as `explain_response` has them; the model is not run.

    Raises:
        ValueError: when there is no such level or range, or the tokenizer cannot write these messages.
    """
    check_level(sources)
    return tuple(grouped(RenderedPrompt.of(explained, prompt), sources)[1])


def check_level(sources: Sources) -> None:
    if isinstance(sources, str) and sources not in get_args(SourceLevel):
        raise ValueError(f"`sources` must be one of {', '.join(get_args(SourceLevel))}, got {sources!r}.")


def grouped(rendered: RenderedPrompt, wanted: Sources) -> tuple[list[int], list[Source]]:
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


def _owner(rendered: RenderedPrompt, token: tuple[int, int]) -> int | None:
    """The message that has a visible character of this token, or all of its white space."""
    start, end = visible_span(rendered.whole, *token)
    for message, (first, last) in enumerate(rendered.spans):
        if max(start, first) < min(end, last) or (start == end and first < start < last):
            return message
    return None


def _given(rendered: RenderedPrompt, place: int, wanted: tuple[int, int, int]) -> Source:
    message, start, end = wanted
    if not 0 <= message < len(rendered.contents) or not 0 <= start < end <= len(rendered.contents[message]):
        sizes = [len(content) for content in rendered.contents]
        raise ValueError(
            f"`sources[{place}]` must be (message, start, end) of messages that have {sizes} characters, got {wanted}."
        )
    return Source(rendered.contents[message][start:end], message, start, end, ())


def _within(rendered: RenderedPrompt, message: int, token: tuple[int, int]) -> tuple[int, int]:
    """The token's characters of a message, counted in its content."""
    (low, high), start = rendered.spans[message], rendered.starts[message]
    first, last = (min(max(place, low), high) - start for place in token)
    return first, last


def _groups(
    rendered: RenderedPrompt,
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
