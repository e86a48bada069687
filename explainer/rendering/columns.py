"""Columns of a text: stretches between cuts that the pieces of all labels have in common; folding, and lines."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from explainer.rendering.pieces import BREAK, Piece

# A word for the counts: letters and digits with apostrophes inside; in scripts without spaces, every sign.
_SIGN = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_SIGN}]|(?:(?![{_SIGN}])\\w)+(?:['’](?:(?![{_SIGN}])\\w)+)*")
_CONTEXT = 6  # clusters shown either side of a strong one
_CLOSE = 6  # clusters, or words of whole sentences: a smaller gap is not worth folding
_CLUSTER = 24  # columns at most


@dataclass(frozen=True)
class Column:
    """One stretch of text as pieces, one row per label; with `omitted` above 0, an ellipsis for that many words."""

    rows: tuple[tuple[Piece, ...], ...]
    words: int = 0
    omitted: int = 0

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.rows[0]) if self.rows else ""

    @property
    def strength(self) -> float:
        return max((abs(piece.strength) for row in self.rows for piece in row), default=0.0)

    @property
    def blank(self) -> bool:
        """Whether this is white space without a score: a line may break here."""
        return not self.omitted and not self.text.strip() and all(p.score is None for row in self.rows for p in row)

    @property
    def breaks(self) -> bool:
        """Whether the text has a line break here."""
        return BREAK.search(self.text) is not None

    @property
    def ellipsis(self) -> str:
        return f"… {self.omitted:,} word{'' if self.omitted == 1 else 's'} …" if self.omitted else ""


def columns(rows: Sequence[Sequence[Piece]]) -> list[Column]:
    """The columns of one text.

    Args:
        rows: the pieces of the text, one row per label.
    """
    cuts = sorted(set.intersection(*({piece.start for piece in row if piece.text} for row in rows))) or [0]
    grouped = [
        {
            cut: tuple(group)
            for cut, group in groupby(row, lambda piece: cuts[max(0, bisect_right(cuts, piece.start) - 1)])
        }
        for row in rows
    ]
    end = max((piece.end for row in rows for piece in row), default=0)
    words = [match.start() for match in _WORD.finditer("".join(piece.text for piece in rows[0]))]
    until = [bisect_right(words, end - 1) for end in [*cuts[1:], end]]
    return [
        Column(tuple(row.get(cut, ()) for row in grouped), words=after - before)
        for cut, before, after in zip(cuts, [0, *until[:-1]], until, strict=True)
    ]


def folded(texts: Sequence[Sequence[Column]], max_words: int | None, context: int = _CONTEXT) -> list[list[Column]]:
    """The texts of a pair (or the one text) with windows around their strongest words, and ellipses between.

    What holds no word but signs is never replaced by an ellipsis.

    Args:
        max_words: about how many words remain; the window of the strongest word always does. None: all.
        context: clusters shown either side of a strong one; 0 where a column is a whole sentence.
    """
    if max_words is None or sum(column.words for text in texts for column in text) <= 1.2 * max_words:
        return [list(text) for text in texts]
    clusters = [(i, cluster) for i, text in enumerate(texts) for cluster in _clusters(text)]
    kept = _kept(clusters, max_words, context)
    shown: list[list[Column]] = [[] for _ in texts]
    for (i, keep), group in groupby(range(len(clusters)), lambda n: (clusters[n][0], n in kept)):
        inside = [column for n in group for column in clusters[n][1]]
        omitted = sum(column.words for column in inside)
        if not keep and omitted:
            blank = tuple((Piece(" ", 0),) for _ in inside[0].rows)
            inside = [Column((), omitted=omitted), Column(blank)]
        shown[i] += inside
    return shown


def _clusters(text: Sequence[Column]) -> list[list[Column]]:
    """Runs without white space, each with the white space after it: the smallest parts that a window shows."""
    clusters: list[list[Column]] = []
    for column in text:
        last = clusters[-1] if clusters else None
        if last is None or len(last) >= _CLUSTER or (last[-1].blank and not column.blank):
            clusters.append([column])
        else:
            last.append(column)
    return clusters


def _kept(clusters: Sequence[tuple[int, Sequence[Column]]], max_words: int, context: int) -> set[int]:
    """The numbers of the clusters to show: windows around the strongest, and small gaps between them."""
    words = [sum(column.words for column in cluster) for _, cluster in clusters]
    strongest = sorted(range(len(clusters)), key=lambda n: -max(column.strength for column in clusters[n][1]))
    context = min(context, max(1, max_words // 8))
    kept: set[int] = set()
    for centre in strongest:
        near = range(max(0, centre - context), min(len(clusters), centre + context + 1))
        window = kept | {n for n in near if clusters[n][0] == clusters[centre][0]}
        if not kept or sum(words[n] for n in window) <= max_words:
            kept = window
    hidden = [n for n in range(len(clusters)) if n not in kept]
    for _, run in groupby(enumerate(hidden), lambda pair: pair[1] - pair[0]):
        gap = [n for _, n in run]
        size = len(gap) if context else sum(words[n] for n in gap)
        if size <= _CLOSE and len({clusters[n][0] for n in gap}) == 1:
            kept |= set(gap)
    return kept


def lines(text: Sequence[Column], width: int, measure: Callable[[Column], int]) -> list[list[Column]]:
    """The columns in lines of at most `width`, as far as they can be broken; white space at a line's end is dropped.

    Args:
        measure: the width of a column.
    """
    broken: list[list[Column]] = [[]]
    room, wrapped = width, False
    for run in _unbroken(text):
        whole = sum(map(measure, run)) <= width
        for i, column in enumerate(run):
            wanted = sum(map(measure, run)) if whole and i == 0 else measure(column)
            if wanted > room and broken[-1] and not column.blank:
                broken.append([])
                room, wrapped = width, True
            if broken[-1] or not (wrapped and column.blank) or column.breaks:
                broken[-1].append(column)
                room -= measure(column)
            if column.breaks:
                broken.append([])
                room, wrapped = width, False
    if not broken[-1] and len(broken) > 1:
        broken.pop()
    for line in broken:
        while line and line[-1].blank:
            line.pop()
    return broken


def _unbroken(text: Sequence[Column]) -> Iterator[list[Column]]:
    """Runs of columns without white space between them; white space, line breaks and ellipses are runs of their own."""
    run: list[Column] = []
    for column in text:
        if column.blank or column.breaks or column.omitted:
            yield from ([run] if run else [])
            yield [column]
            run = []
        else:
            run.append(column)
    yield from ([run] if run else [])
