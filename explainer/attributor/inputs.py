"""What an attributor is given: one text or many, pairs, words already split; and their tokens.

An item is a string, a list of words (`is_split_into_words`), or a mapping with `text` and optionally `text_pair`, as
transformers' pipelines take them and as the rows of a `datasets.Dataset` are.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, repeat
from typing import Any, Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel

Item = Any
"""A string, a list of words, or a mapping of `text` (and `text_pair`)."""

Class = str | int
"""A label, an index, or "predicted"."""

Classes = str | Sequence[Class]
"""Several classes, or "all"."""


def amount(texts: Any, is_split_into_words: bool = False) -> Literal["one", "list", "stream"]:
    """Whether this is one text, a list (or tuple) of texts, or any other iterable of them, read as it is needed.

    >>> amount("a film"), amount(["a film"]), amount(iter(["a film"]))
    ('one', 'list', 'stream')
    >>> amount(["a", "film"], is_split_into_words=True), amount([["a", "film"]], is_split_into_words=True)
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


def rows(texts: Iterable[Item], text_pairs: Iterable[Item] | None = None) -> Iterator[tuple[Item, Item]]:
    """Each item as (text, text_pair), read one by one.

    Raises:
        ValueError: when a mapping has no `text`, its pair comes twice, or texts and pairs are not as many.
    """
    pairs, counted = (repeat(None), False) if text_pairs is None else (text_pairs, True)
    for i, (item, pair) in enumerate(zip(texts, pairs, strict=counted)):
        if not isinstance(item, Mapping):
            yield item, pair
            continue
        if "text" not in item:
            raise ValueError(f"`texts[{i}]` is a mapping without a `text`; it has {', '.join(map(str, item))}.")
        if pair is not None:
            raise ValueError(f"`texts[{i}]` is a mapping, whose `text_pair` is its pair: leave `text_pairs` out.")
        yield item["text"], item.get("text_pair")


def classes(
    explained: ExplainedModel, target: Class | Sequence[Class], targets: Classes | None, n: int
) -> Int64[Tensor, "texts targets"]:
    """The classes asked for of each of `n` texts, `PREDICTED` where that is: one by `target`, several by `targets`.

    Raises:
        ValueError: when there is no such class, or not one `target` a text, or both are given.
    """
    index = explained.label_index
    if targets is None:
        asked = [target] * n if isinstance(target, str | int) else list(target)
        if len(asked) != n:
            raise ValueError(f"`target` must be one target, or one a text ({n}), got {len(asked)}.")
        return torch.tensor([index(one) for one in asked], dtype=torch.int64)[:, None]
    if target != "predicted":
        raise ValueError(f"`target` and `targets` exclude each other, got {target!r} and {targets!r}.")
    if (isinstance(targets, str) and targets != "all") or len(targets) == 0:
        raise ValueError(f"`targets` must be 'all' or a list of classes, got {targets!r}.")
    chosen = range(len(explained.labels)) if targets == "all" else [index(one) for one in targets]
    return torch.tensor(list(chosen), dtype=torch.int64).repeat(n, 1)


def encode(
    explained: ExplainedModel, given: Sequence[tuple[Item, Item]], is_split_into_words: bool = False
) -> list[EncodedText]:
    """Tokens of (text, text_pair) rows.

    Words already split are joined by single spaces, and that is the text: the model reads what it would read of it,
    offsets are its characters, and `words` are the given ones. (transformers tokenizes each word by itself, which
    gives the same tokens wherever a tokenizer never joins or tells apart what a space parts.)

    Raises:
        TypeError: when a text is not a string, or not a list of words where it should be.
    """
    texts, pairs = [text for text, _ in given], [pair for _, pair in given]
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
    """The text with its tokens counted to the words given, by the last character of each token."""
    starts = [list(accumulate((len(word) + 1 for word in part), initial=0)) for part in words]
    places = zip(text.words, text.segments, text.offsets, strict=True)
    # Not by the first character: a byte-level tokenizer may count the space before a word to its first token.
    counted = [
        -1 if word < 0 else bisect_right(starts[segment], max(start, end - 1)) - 1
        for word, segment, (start, end) in places
    ]
    return replace(text, words=tuple(counted))
