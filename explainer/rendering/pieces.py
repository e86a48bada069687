"""Pieces of a text: every character once, in order; the scored stretches carry their scores."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from explainer.scored_text import ScoredText

Level = Literal["word", "token"]

BREAK = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_UNSCORED = re.compile(f"{BREAK.pattern}|[^\\S\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+|\\S+")
_SEEN = {" ": "␣", "\t": "⇥"}


@dataclass(frozen=True)
class Piece:
    """A stretch of the text that begins at character `start`, and its score; None where it has none.

    Attributes:
        strength: the score over that of full colour, in [-1, 1].
        mark: shown before the text and no part of it: `##` or `·` where a token continues a word, `×2` where tokens
            share a character (their scores are summed), `∅` where a token covers no character at all.
        tokens: the tokenizer's names of the tokens, where single tokens are shown.
    """

    text: str
    start: int
    score: float | None = None
    strength: float = 0.0
    mark: str = ""
    tokens: tuple[str, ...] = ()

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def shown(self) -> str:
        """Mark and text as one line of visible characters; white space that has a score is made visible."""
        if self.score is None:
            return visible(self.text)
        text = BREAK.sub("⏎", self.text)
        edge = len(text) - len(text.lstrip())
        seen = "".join(_SEEN.get(c, c) for c in (text[:edge] if text.strip() else text))
        return self.mark + visible(seen + (text[edge:] if text.strip() else ""))


def visible(text: str) -> str:
    """The text without anything that moves a cursor: tabs as spaces, other controls as their pictures."""
    return "".join(map(_visible, BREAK.sub("", text)))


def _visible(character: str) -> str:
    code = ord(character)
    if character == "\t":
        return "    "
    if code < 32 or code == 127:
        return chr(0x2400 + code) if code < 32 else "␡"
    hidden = 0x80 <= code < 0xA0 or 0xD800 <= code < 0xE000 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069
    return "�" if hidden else character


def pieces(scored: ScoredText, level: Level = "word") -> list[list[Piece]]:
    """The pieces of the text, and of the second one of a pair; joined, they are the texts.

    Args:
        level: `word` or `token`.
    """
    if level not in get_args(Level):
        raise ValueError(f"`level` must be 'word' or 'token', got {level!r}.")
    stretches = _words(scored) if level == "word" else _tokens(scored)
    return [
        covering(text, [piece for segment, piece in stretches if segment == number])
        for number, text in enumerate(scored.texts)
    ]


def _words(scored: ScoredText) -> list[tuple[int, Piece]]:
    """The words, each with the number of its text."""
    return [(word.segment, Piece(word.word, word.start, word.score)) for word in scored.words()]


def _tokens(scored: ScoredText) -> list[tuple[int, Piece]]:
    """The tokens that have a score, each with the number of its text."""
    tokens = []
    before: tuple[int, int, int] | None = None  # segment, word, end
    numbers = [number for number, scorable in zip(scored.words_of_tokens, scored.scorable, strict=True) if scorable]
    for word, number in zip(scored.words("none"), numbers, strict=True):
        continues = before == (word.segment, number, word.start)
        mark = "##" if word.word.startswith("##") else "·" if continues and word.end > word.start else ""
        text = scored.texts[word.segment][word.start : word.end]
        tokens.append((word.segment, Piece(text, word.start, word.score, mark=mark, tokens=(word.word,))))
        before = (word.segment, number, word.end)
    return tokens


def covering(text: str, scored: Sequence[Piece]) -> list[Piece]:
    """The scored pieces in order; between them words, white space and line breaks without a score."""
    covering, position = [], 0
    for piece in _apart(text, scored):
        covering += [*_unscored(text, position, piece.start), piece]
        position = piece.end
    return [*covering, *_unscored(text, position, len(text))]


def _apart(text: str, scored: Sequence[Piece]) -> list[Piece]:
    """Pieces that share characters (bytes of one emoji, say) as one piece with the sum of their scores."""
    apart: list[Piece] = []
    for piece in sorted(scored, key=lambda piece: (piece.start, piece.end)):
        last = apart[-1] if apart else None
        if last is not None and piece.start < last.end:
            apart[-1] = _joined(text, last, piece)
        else:
            apart.append(piece if piece.text else replace(piece, mark="∅"))
    return apart


def _joined(text: str, one: Piece, other: Piece) -> Piece:
    tokens = one.tokens + other.tokens
    return Piece(
        text[one.start : max(one.end, other.end)],
        one.start,
        (one.score or 0.0) + (other.score or 0.0),
        mark=f"×{len(tokens)}" if tokens else one.mark,
        tokens=tokens,
    )


def _unscored(text: str, start: int, end: int) -> Iterator[Piece]:
    for match in _UNSCORED.finditer(text, start, end):
        yield Piece(match.group(), match.start())
