"""The same text by several maps, cut where all of them have a cut: what stands below each other."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from explainer.rendering.pieces import BREAK, Piece

# A word for the counts: letters and digits with apostrophes inside; each sign of a script without spaces by itself.
_SIGN = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_SIGN}]|(?:(?![{_SIGN}])\\w)+(?:['’](?:(?![{_SIGN}])\\w)+)*")
_CONTEXT, _CLOSE, _CLUSTER = 6, 6, 24  # clusters either side of a strong one; gaps not worth folding; columns


@dataclass(frozen=True)
class Column:
    """One stretch of text, each map's pieces of it; or, where `omitted` is above 0, an ellipsis for that many words."""

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
        """White space without a score: where a line may break."""
        return not self.omitted and not self.text.strip() and all(p.score is None for row in self.rows for p in row)

    @property
    def breaks(self) -> bool:
        """Whether the line ends here, because it does in the text."""
        return BREAK.search(self.text) is not None

    @property
    def ellipsis(self) -> str:
        return f"… {self.omitted:,} word{'' if self.omitted == 1 else 's'} …" if self.omitted else ""


def columns(rows: Sequence[Sequence[Piece]]) -> list[Column]:
    """The columns of one text from its pieces by every map."""
    cuts = sorted(set.intersection(*({piece.start for piece in row if piece.text} for row in rows)))
    ends = {max((piece.end for piece in row), default=0) for row in rows}
    cuts = cuts or [0]
    grouped = [
        {
            cut: tuple(group)
            for cut, group in groupby(row, lambda piece: cuts[max(0, bisect_right(cuts, piece.start) - 1)])
        }
        for row in rows
    ]
    starts = [match.start() for match in _WORD.finditer("".join(piece.text for piece in rows[0]))]
    counts = [bisect_right(starts, end - 1) for end in [*cuts[1:], max(ends)]]
    before = [0, *counts[:-1]]
    return [
        Column(tuple(row.get(cut, ()) for row in grouped), words=after - earlier)
        for cut, earlier, after in zip(cuts, before, counts, strict=True)
    ]


def folded(texts: Sequence[Sequence[Column]], max_words: int | None) -> list[list[Column]]:
    """The texts of a pair (or the one text) with windows around their strongest words, and ellipses between.

    Args:
        max_words: about how many words remain; the strongest does whatever it costs. None: all.
    """
    if max_words is None or sum(column.words for text in texts for column in text) <= 1.2 * max_words:
        return [list(text) for text in texts]
    clusters = [(i, cluster) for i, text in enumerate(texts) for cluster in _clusters(text)]
    kept = _kept(clusters, max_words)
    found: list[list[Column]] = [[] for _ in texts]
    for (i, keep), group in groupby(range(len(clusters)), lambda n: (clusters[n][0], n in kept)):
        inside = [column for n in group for column in clusters[n][1]]
        found[i] += inside if keep else _ellipsis(inside)
    return found


def _ellipsis(hidden: Sequence[Column]) -> list[Column]:
    """One column that says how many words are hidden; what holds no word but signs is shown as it is."""
    count = sum(column.words for column in hidden)
    if count == 0:
        return list(hidden)
    blank = tuple((Piece(" ", 0),) for _ in hidden[0].rows)
    return [Column((), omitted=count), Column(blank)]


def _clusters(text: Sequence[Column]) -> list[list[Column]]:
    """Runs without white space, each with the white space after it: what a window never cuts in two."""
    found: list[list[Column]] = []
    for column in text:
        last = found[-1] if found else None
        if last is None or len(last) >= _CLUSTER or (last[-1].blank and not column.blank):
            found.append([column])
        else:
            last.append(column)
    return found


def _kept(clusters: Sequence[tuple[int, Sequence[Column]]], max_words: int) -> set[int]:
    """Numbers of the clusters to show: windows around the strongest, and small gaps between them."""
    words = [sum(column.words for column in cluster) for _, cluster in clusters]
    strongest = sorted(range(len(clusters)), key=lambda n: -max(column.strength for column in clusters[n][1]))
    context = max(1, min(_CONTEXT, max_words // 8))
    kept: set[int] = set()
    for centre in strongest:
        near = range(max(0, centre - context), min(len(clusters), centre + context + 1))
        window = kept | {n for n in near if clusters[n][0] == clusters[centre][0]}
        if not kept or sum(words[n] for n in window) <= max_words:
            kept = window
    return kept | set(_small_gaps(kept, [text for text, _ in clusters]))


def _small_gaps(kept: set[int], texts: Sequence[int]) -> Iterator[int]:
    hidden = enumerate(n for n in range(len(texts)) if n not in kept)
    for _, group in groupby(hidden, lambda pair: pair[1] - pair[0]):
        gap = [n for _, n in group]
        if len(gap) <= _CLOSE and len({texts[n] for n in gap}) == 1:
            yield from gap


def lines(text: Sequence[Column], width: int, measure: Callable[[Column], int]) -> list[list[Column]]:
    """The columns line by line, as wide as `width` where they can be broken; blanks at a line's end are dropped.

    Args:
        measure: the width of a column.
    """
    found: list[list[Column]] = [[]]
    room, wrapped = width, False
    for run in _unbroken(text):
        whole = sum(map(measure, run)) <= width
        for i, column in enumerate(run):
            wanted = sum(map(measure, run)) if whole and i == 0 else measure(column)
            if wanted > room and found[-1] and not column.blank:
                found.append([])
                room, wrapped = width, True
            if found[-1] or not (wrapped and column.blank) or column.breaks:
                found[-1].append(column)
                room -= measure(column)
            if column.breaks:
                found.append([])
                room, wrapped = width, False
    return [_without_blanks(line) for line in (found if found[-1] or len(found) == 1 else found[:-1])]


def _unbroken(text: Sequence[Column]) -> Iterator[list[Column]]:
    run: list[Column] = []
    for column in text:
        if column.blank or column.breaks or column.omitted:
            yield from ([run] if run else [])
            yield [column]
            run = []
        else:
            run.append(column)
    yield from ([run] if run else [])


def _without_blanks(line: list[Column]) -> list[Column]:
    while line and line[-1].blank:
        line = line[:-1]
    return line
