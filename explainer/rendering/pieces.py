"""A text as the pieces that are shown: every character once, in order, the scored stretches with their scores."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from explainer.explanation import Explanation

Level = Literal["word", "token"]

BREAK = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_UNSCORED = re.compile(f"{BREAK.pattern}|[^\\S\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+|\\S+")
_SEEN = {" ": "␣", "\t": "⇥"}


@dataclass(frozen=True)
class Piece:
    """`text` begins at character `start`; its score, None where the method gave none.

    Attributes:
        strength: the score over that of full colour, in [-1, 1].
        mark: shown before the text and no part of it: `##` or `·` where a token continues a word, `×2` where tokens
            share a character (their scores are summed), `∅` where a token covers no character at all.
        tokens: the tokenizer's own names of what is shown, in tokens.
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
        """Mark and text as one line of visible characters: white space that has a score is made visible."""
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


def pieces(explanation: Explanation, level: Level = "word") -> list[list[Piece]]:
    """The pieces of the text, and of the second one of a pair: put together they are the texts.

    Args:
        level: `word` or `token`.
    """
    if level not in ("word", "token"):
        raise ValueError(f"`level` must be 'word' or 'token', got {level!r}.")
    texts = [explanation.text] + ([] if explanation.text_pair is None else [explanation.text_pair])
    scored = _words(explanation) if level == "word" else _tokens(explanation)
    return [_covering(text, [piece for place, piece in scored if place == i]) for i, text in enumerate(texts)]


def _words(explanation: Explanation) -> list[tuple[int, Piece]]:
    texts = (explanation.text, explanation.text_pair or "")
    return [
        (word.segment, Piece(texts[word.segment][word.start : word.end], word.start, word.score))
        for word in explanation.words()
    ]


def _tokens(explanation: Explanation) -> list[tuple[int, Piece]]:
    texts, found = (explanation.text, explanation.text_pair or ""), []
    before: tuple[int, int, int] | None = None  # segment, word, end
    for i in [i for i, scorable in enumerate(explanation.scorable) if scorable]:
        (start, end), segment, token = explanation.offsets[i], explanation.segments[i], explanation.tokens[i]
        continues = before == (segment, explanation.words_of_tokens[i], start)
        mark = "##" if token.startswith("##") else "·" if continues and end > start else ""
        piece = Piece(texts[segment][start:end], start, explanation.scores[i], mark=mark, tokens=(token,))
        found.append((segment, piece))
        before = (segment, explanation.words_of_tokens[i], end)
    return found


def _covering(text: str, scored: Sequence[Piece]) -> list[Piece]:
    """Scored pieces in order, and between them what has no score, by words, blanks and line breaks."""
    found, position = [], 0
    for piece in _apart(text, scored):
        found += [*_unscored(text, position, piece.start), piece]
        position = piece.end
    return [*found, *_unscored(text, position, len(text))]


def _apart(text: str, scored: Sequence[Piece]) -> list[Piece]:
    """Pieces that share characters (bytes of one emoji, say) as one piece with the sum of their scores."""
    found: list[Piece] = []
    for piece in sorted(scored, key=lambda piece: (piece.start, piece.end)):
        last = found[-1] if found else None
        if last is not None and piece.start < last.end:
            found[-1] = _joined(text, last, piece)
        else:
            found.append(piece if piece.text else replace(piece, mark="∅"))
    return found


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
