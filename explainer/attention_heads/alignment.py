"""The words of a parse and the tokens of a model, matched by their characters."""

from collections.abc import Sequence
from dataclasses import dataclass

from explainer.attention_heads.parses import Parse
from explainer.explained import EncodedText


@dataclass(frozen=True)
class Arc:
    """A dependency in tokens.

    Attributes:
        relation: an index into the relations that are looked at.
        token: the dependent's first token.
        head: all tokens of its head.
        words: how many words to the right the head is; negative to the left.
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
    """The dependencies of these relations, without those that have a word outside the text (which may be cut)."""
    dependencies: list[Arc] = []
    for i, word in enumerate(parse.words):
        if word.relation not in relations or word.head is None:
            continue
        head = parse.words[word.head]
        own_tokens, head_tokens = tokens_of(text, word.start, word.end), tokens_of(text, head.start, head.end)
        if own_tokens and head_tokens:
            dependencies.append(Arc(relations.index(word.relation), own_tokens[0], head_tokens, word.head - i))
    return dependencies
