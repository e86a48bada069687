"""The layout of a response and the messages before it: pieces with their colours, folded where the prompt is long."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from explainer.rendering.columns import Column, columns, folded
from explainer.rendering.layout import cut
from explainer.rendering.pieces import Piece, covering

MAX_WORDS = 200
TOP = 3
"""The number of sources that are listed apart."""

CONTEXT = 24
"""About how many characters are shown on either side of a source in that list; a longer source stands alone."""

_CUT_START = re.compile(rf"^.*(?=.{{{CONTEXT}}})\S*")
_CUT_END = re.compile(rf"(?<=^.{{{CONTEXT}}})\S*.*$")
_PARTS = re.compile(r"\s+|\S+")


class Stretch(NamedTuple):
    """The characters from `start` to `end` of a message, which are scored as one."""

    message: int
    start: int
    end: int
    score: float


class Message(NamedTuple):
    """One message of the prompt; a prompt that is a string has the role `prompt`."""

    role: str
    content: str


@dataclass(frozen=True, eq=False)
class TokenTable:
    """What lets a page explain any span of the response: scores and log-probabilities of its tokens.

    Attributes:
        scores: of each source for each token.
        log_probabilities: of the tokens, in nats.
    """

    scores: Float[np.ndarray, "tokens sources"]
    log_probabilities: Float[np.ndarray, " tokens"]


@dataclass(frozen=True, eq=False)
class ResponseLayout:
    """A response, the part of it that is explained, and the scores of the prompt's sources.

    Attributes:
        messages: the prompt.
        sources: the scored stretches of the messages, in their order.
        response: its text.
        offsets: (start, end) characters of each of its tokens.
        span: (first, last + 1) of the explained tokens.
        headline: what is explained, in a few words.
        facts: further facts, in their order.
        level: what a source is: `word`, `sentence` and so on.
        table: the scores of every token of the response, with which a page lets one pick another span.
        max_words: a longer prompt is folded to windows around its strongest sources; None shows all of it.
    """

    messages: tuple[Message, ...]
    sources: tuple[Stretch, ...]
    response: str
    offsets: tuple[tuple[int, int], ...]
    span: tuple[int, int]
    headline: str
    facts: tuple[str, ...]
    level: str
    table: TokenTable | None = field(default=None, repr=False)
    max_words: int | None = MAX_WORDS

    @property
    def characters(self) -> tuple[int, int]:
        """(start, end) of the explained part of the response, without white space around it."""
        inside = self.offsets[slice(*self.span)]
        start, end = min(a for a, _ in inside), max(b for _, b in inside)
        text = self.response[start:end]
        trimmed = len(text) - len(text.lstrip())
        return (start + trimmed, start + len(text.rstrip())) if text.strip() else (start, end)

    @cached_property
    def largest(self) -> float:
        """The |score| of full colour."""
        return max((abs(source.score) for source in self.sources), default=0.0)

    @property
    def strongest(self) -> list[int]:
        """The numbers of the sources with the highest positive scores."""
        order = sorted(range(len(self.sources)), key=lambda i: -self.sources[i].score)
        return [i for i in order[:TOP] if self.sources[i].score > 0]

    def strength(self, source: int) -> float:
        """The score of a source over that of full colour, in [-1, 1]."""
        return self.sources[source].score / self.largest if self.largest else 0.0

    def in_context(self, source: int) -> tuple[str, str, str]:
        """The words before a short source on its line, its own, and those after it."""
        message, start, end, _ = self.sources[source]
        content = self.messages[message].content
        if end - start > CONTEXT:
            return "", content[start:end], ""
        before = content[:start].split("\n")[-1]
        after = content[end:].split("\n")[0]
        return _CUT_START.sub("…", before), content[start:end], _CUT_END.sub("…", after)

    def text_of(self, source: int) -> str:
        """The characters of a source."""
        message, start, end, _ = self.sources[source]
        return self.messages[message].content[start:end]

    def columns(self, fold: bool = True, widest: int | None = None, signed: bool = False) -> list[list[Column]]:
        """The columns of every message; a source of several words is one column per word and per space.

        Args:
            fold: to windows, where the prompt is long.
            widest: cells of a terminal after which a piece is cut.
            signed: only the first word of each source has its strength, since a sign stands there once.
        """
        whole = [columns([self._pieces(number)]) for number in range(len(self.messages))]
        context = {} if self.level in ("token", "word") else {"context": 0}
        shown = folded(whole, self.max_words if fold else None, **context)
        return [[part for column in text for part in _words(column, widest, signed)] for text in shown]

    def source_at(self, message: int, start: int) -> int | None:
        """The number of the source that has a character of a message."""
        own = self._own[message]
        place = bisect_right([self.sources[i].start for i in own], start) - 1
        return own[place] if place >= 0 and start < self.sources[own[place]].end else None

    @cached_property
    def _own(self) -> list[list[int]]:
        """The numbers of each message's sources, by their place in it."""
        own: list[list[int]] = [[] for _ in self.messages]
        for i in sorted(range(len(self.sources)), key=lambda i: self.sources[i].start):
            own[self.sources[i].message].append(i)
        return own

    def _pieces(self, message: int) -> list[Piece]:
        stretches = []
        for i in self._own[message]:
            _, start, _, score = self.sources[i]
            stretches.append(Piece(self.text_of(i), start, score, strength=self.strength(i)))
        return covering(self.messages[message].content, stretches)

    @property
    def scale(self) -> str:
        """The meaning of full colour."""
        if not self.largest:
            return f"no {self.level} has a score other than zero"
        return f"full colour: |score| {self.largest:.3g}, the largest {self.level}; none at zero"

    @property
    def title(self) -> str:
        """The first words of the response, for a page."""
        return f"Why: {' '.join(self.response.split())[:60]}"


def _words(column: Column, widest: int | None, signed: bool) -> Iterator[Column]:
    """A column in columns of one word each, at which lines may break."""
    if column.omitted:
        yield column
        return
    parts = [part for piece in column.rows[0] for part in _parts(piece, signed)]
    cells = parts if widest is None else [cell for part in parts for cell in cut(part, widest)]
    for i, cell in enumerate(cells):
        yield Column(((cell,),), words=column.words if i == 0 else 0)


def _parts(piece: Piece, signed: bool) -> list[Piece]:
    """A scored piece as its words and the white space between them, at which lines may break."""
    if piece.score is None or not piece.text.strip():
        return [piece]
    parts = [
        replace(piece, text=part[0], start=piece.start + part.start(), score=piece.score if part[0].strip() else None)
        for part in _PARTS.finditer(piece.text)
    ]
    return [parts[0], *(replace(part, strength=0.0) for part in parts[1:])] if signed else parts
