"""Words of a parse and tokens of a model, matched by their characters."""

from collections.abc import Sequence
from dataclasses import dataclass

from explainer.attention_heads.parses import Parse
from explainer.explained import EncodedText


@dataclass(frozen=True)
class Arc:
    """A dependency in tokens: the dependent's first token, all tokens of its head, and how many words to the right
    the head is; `relation` is an index.
    """

    relation: int
    token: int
    head: tuple[int, ...]
    words: int


def tokens_of(text: EncodedText, start: int, end: int) -> tuple[int, ...]:
    """The scorable tokens that share a character with [start, end)."""
    return tuple(
        i
        for i, (first, last) in enumerate(text.offsets)
        if text.scorable[i] and text.segments[i] == 0 and first < end and last > start
    )


def arcs(text: EncodedText, parse: Parse, relations: Sequence[str]) -> list[Arc]:
    """The dependencies of these relations, of whose two words the text holds tokens (a cut text may not)."""
    found: list[Arc] = []
    for i, word in enumerate(parse.words):
        if word.relation not in relations or word.head is None:
            continue
        head = parse.words[word.head]
        here, there = tokens_of(text, word.start, word.end), tokens_of(text, head.start, head.end)
        if here and there:
            found.append(Arc(relations.index(word.relation), here[0], there, word.head - i))
    return found
