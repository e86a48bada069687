"""The texts of a call, normalised: one or many, pairs, words already split; and their tokens.

A text is a string, a list of words (`is_split_into_words`), or a mapping with `text` and optionally `text_pair`, as
transformers' pipelines take them and as the rows of a `datasets.Dataset` are; of questions, with `question` and
`context`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, repeat
from typing import Any, Literal, NamedTuple

from explainer.explained import EncodedText, ExplainedModel
from explainer.scored_text import visible_span

InputKind = Literal["one", "list", "stream"]


class TextInput(NamedTuple):
    """One text and its pair: strings, or lists of words where texts are split into words."""

    text: Any
    text_pair: Any = None


@dataclass(frozen=True)
class Inputs:
    """The texts of a call, and how many were meant: the shape of the call's result.

    Attributes:
        kind: one text, a list (or tuple) of texts, or a stream: any other iterable, read as its results are taken.
        items: each text with its pair, read one by one.
    """

    kind: InputKind
    items: Iterator[TextInput]


def read(texts: Any, text_pairs: Any = None, is_split_into_words: bool = False) -> Inputs:
    """The texts and pairs of a call.

    Raises:
        TypeError: when `texts` is neither a text nor an iterable.
        ValueError: when there are not as many pairs as texts. For a stream, and for a mapping that has no `text` or
            comes with a pair, the error is raised when the item is read.
    """
    kind = input_kind(texts, is_split_into_words)
    if kind == "one":
        return Inputs(kind, _items([texts], None if text_pairs is None else [text_pairs]))
    if kind == "list" and text_pairs is not None and len(text_pairs) != len(texts):
        raise ValueError(f"`text_pairs` must have one entry per text ({len(texts)}), got {len(text_pairs)}.")
    return Inputs(kind, _items(texts, text_pairs))


def input_kind(texts: Any, is_split_into_words: bool = False) -> InputKind:
    """Whether this is one text, a list (or tuple) of texts, or any other iterable of them.

    >>> input_kind("a film"), input_kind(["a film"]), input_kind(iter(["a film"]))
    ('one', 'list', 'stream')
    >>> input_kind(["a", "film"], is_split_into_words=True), input_kind([["a", "film"]], is_split_into_words=True)
    ('one', 'list')

    Raises:
        TypeError: when it is none of these.
    """
    if isinstance(texts, str | Mapping):
        return "one"
    if isinstance(texts, list | tuple):
        return "one" if is_split_into_words and len(texts) > 0 and isinstance(texts[0], str) else "list"
    if isinstance(texts, Iterable):
        return "stream"
    raise TypeError(f"`texts` must be a text, a list of texts or an iterable of texts, got {type(texts).__name__}.")


def _items(texts: Iterable[Any], text_pairs: Iterable[Any] | None) -> Iterator[TextInput]:
    """Each text with its pair; a mapping is taken apart."""
    pairs, counted = (repeat(None), False) if text_pairs is None else (text_pairs, True)
    for i, (text, pair) in enumerate(zip(texts, pairs, strict=counted)):
        if not isinstance(text, Mapping):
            yield TextInput(text, pair)
            continue
        if pair is not None:
            raise ValueError(f"`texts[{i}]` is a mapping, whose `text_pair` is its pair: leave `text_pairs` out.")
        if "question" in text and "context" in text:
            yield TextInput(text["question"], text["context"])
            continue
        if "text" not in text:
            raise ValueError(
                f"`texts[{i}]` is a mapping without a `text`, or a `question` and its `context`; it has "
                f"{', '.join(map(str, text))}."
            )
        yield TextInput(text["text"], text.get("text_pair"))


def encode(
    explained: ExplainedModel, items: Sequence[TextInput], is_split_into_words: bool = False
) -> list[EncodedText]:
    """The tokens of texts and pairs.

    Words already split are joined by single spaces, and that is the text: the model reads what it would read of it,
    offsets count its characters, and `words` are the given ones. (transformers tokenizes each word by itself. That
    gives the same tokens unless a tokenizer joins characters across a space, or treats a word differently after one.)

    Raises:
        TypeError: when a text is not a string, or not a list of words where it should be.
    """
    texts, pairs = [item.text for item in items], [item.text_pair for item in items]
    if not is_split_into_words:
        return explained.encode(texts, pairs)
    for name, values in (("texts", texts), ("text_pairs", [pair for pair in pairs if pair is not None])):
        for i, words in enumerate(values):
            if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
                raise TypeError(f"`{name}[{i}]` must be a list of words (`is_split_into_words`), got {words!r:.60}")
    encoded = explained.encode(
        [" ".join(words) for words in texts], [None if words is None else " ".join(words) for words in pairs]
    )
    return [_with_words(text, words, pair or ()) for text, words, pair in zip(encoded, texts, pairs, strict=True)]


def _with_words(text: EncodedText, *words: Sequence[str]) -> EncodedText:
    """The text with each token numbered by the given word that its last visible character lies in."""
    starts = [list(accumulate((len(word) + 1 for word in part), initial=0)) for part in words]
    sources = (text.text, text.text_pair or "")

    def number_of(segment: int, start: int, end: int) -> int:
        start, end = visible_span(sources[segment], start, end)
        # A byte-level tokenizer may count the space before a word to its first token, or make it a token of its own.
        place = end - 1 if sources[segment][start:end].strip() else end
        return bisect_right(starts[segment], place) - 1

    places = zip(text.words, text.segments, text.offsets, strict=True)
    numbers = [-1 if word < 0 else number_of(segment, *offset) for word, segment, offset in places]
    return replace(text, words=tuple(numbers))
