"""Views as a matplotlib figure: every word on its colour, wrapped, one block a text, the scale below."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from textwrap import wrap
from typing import Any

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.cells import cell_len, set_cell_size

from explainer.explanation import Explanation
from explainer.rendering.colour import RGB, WHITE, colour, ink
from explainer.rendering.columns import Column, lines
from explainer.rendering.pieces import Piece, visible
from explainer.rendering.views import View, side_by_side, view

_COLUMNS, _LABEL = 96, 20  # characters of a line, and of a label at most
_POINTS = 10.763  # a character is nine pixels wide at 100 dots per inch, as in TensorBoard: words end where they should
_CHARACTER, _LINE, _EDGE = 0.602 * _POINTS / 72, 0.24, 0.15  # inches
_SOFT = "#555555"
# One face for each script, of those that are installed; what none of them has is shown as a box.
_FACES = (
    *("DejaVu Sans Mono", "Noto Sans Mono CJK SC", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans"),
    *("PingFang SC", "Hiragino Sans", "Microsoft YaHei", "MS Gothic", "Malgun Gothic", "WenQuanYi Micro Hei"),
    *("DejaVu Sans", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "Segoe UI Symbol"),
)


def heatmap(
    explanations: Sequence[Explanation], labels: Sequence[str] | None = None, max_words: int | None = 60
) -> Figure:
    """A block a text. Where there are labels, the maps of one text that follow each other stand below each other.

    Args:
        labels: what stands before each map.
        max_words: a longer text is folded to windows around its strongest words; None shows all of it.
    """
    if labels is None:
        return figure([view(one, max_words=max_words) for one in explanations])
    pairs = groupby(zip(labels, explanations, strict=True), lambda pair: (pair[1].text, pair[1].text_pair))
    return figure([side_by_side(dict(group), max_words=max_words, shared=False) for _, group in pairs])


def figure(views: Sequence[View]) -> Figure:
    """The views below each other, as high as they need, and what the colours mean."""
    page = _Page()
    for shown in views:
        _block(page, shown, alone=len(views) == 1)
    _key(page, views)
    return page.figure()


@dataclass(frozen=True)
class _Drawn:
    """A text at a column and a row, on its colour where it has one."""

    column: int
    row: float
    text: str
    paper: RGB | None
    ink: str
    weight: str

    def draw(self, figure: Figure, width: float, height: float) -> None:
        x, y = (_EDGE + self.column * _CHARACTER) / width, 1 - (_EDGE + (self.row + 0.72) * _LINE) / height
        if self.paper is not None:
            across, up = cell_len(self.text) * _CHARACTER / width, 0.86 * _LINE / height
            face = tuple(part / 255 for part in self.paper)
            place = Rectangle((x, y - 0.24 * up), across, up, transform=figure.transFigure, facecolor=face, linewidth=0)
            figure.add_artist(place)
        style: dict[str, Any] = {"family": _families(), "size": _POINTS, "weight": self.weight, "color": self.ink}
        # Dollar signs are money here, not mathematics.
        figure.text(x, y, _drawable(self.text), va="baseline", parse_math=False, **style)


class _Page:
    """A sheet of characters that grows downwards; `row` is the line that is written next."""

    def __init__(self) -> None:
        self.row = 0.0
        self.drawn: list[_Drawn] = []

    def write(
        self, column: int, text: str, paper: RGB | None = None, ink: str = "black", weight: str = "normal"
    ) -> None:
        self.drawn.append(_Drawn(column, self.row, text, paper, ink, weight))

    def figure(self) -> Figure:
        width, height = 2 * _EDGE + _COLUMNS * _CHARACTER, 2 * _EDGE + max(self.row, 1.0) * _LINE
        figure = Figure(figsize=(width, height), facecolor="white")
        for one in self.drawn:
            one.draw(figure, width, height)
        return figure


def _block(page: _Page, shown: View, alone: bool) -> None:
    several = len(shown.maps) > 1
    start = min(_LABEL, max(map(cell_len, shown.maps))) + 2 if several else 0
    for label, facts in shown.headings:
        _facts(page, label, facts if alone else f"{facts} · full colour {shown.full}")
    for text in shown.texts(widest=_COLUMNS - start - 4):
        page.row += 0.35
        for line in lines(text, _COLUMNS - start, _measure):
            for number, label in enumerate(shown.maps if line or not several else ()):
                if several:
                    page.write(0, _short(label), ink=_SOFT)
                _row(page, start, number, line)
                page.row += 1
            page.row += 0.35 if several else 0
    page.row += 0.9


def _facts(page: _Page, label: str, facts: str) -> None:
    first, *others = facts.split(" · ")
    start = cell_len(_short(label)) + 2 if label else 0
    page.write(0, _short(label), ink=_SOFT)
    page.write(start, visible(first), weight="bold")
    _paragraph(page, start + cell_len(visible(first)) + 2, " · ".join(others))


def _paragraph(page: _Page, start: int, text: str) -> None:
    for line in wrap(visible(text), _COLUMNS - start) or [""]:
        page.write(start, line, ink=_SOFT)
        page.row += 1


def _short(label: str) -> str:
    label = visible(label)
    return label if cell_len(label) <= _LABEL else set_cell_size(label, _LABEL - 1) + "…"


def _row(page: _Page, start: int, number: int, line: Sequence[Column]) -> None:
    at = start
    for column in line:
        if column.omitted:
            page.write(at, column.ellipsis, ink=_SOFT)
        for x, piece in _placed(column, number) if column.rows else ():
            paper = colour(piece.strength) if piece.strength else None
            dark = paper is not None and ink(paper) == WHITE
            page.write(at + x, piece.shown, paper, "white" if dark else "black")
        at += _measure(column)


def _placed(column: Column, number: int) -> Iterator[tuple[int, Piece]]:
    x = 0
    for piece in column.rows[number]:
        yield x, piece
        x += cell_len(piece.shown)


def _measure(column: Column) -> int:
    if column.omitted:
        return cell_len(column.ellipsis)
    return max(sum(cell_len(piece.shown) for piece in row) for row in column.rows)


def _key(page: _Page, views: Sequence[View]) -> None:
    if not views:
        return
    page.write(0, "against", ink=_SOFT)
    for step in range(-8, 9):
        page.write(9 + step + 8, " ", colour(step / 8))
    own = "full colour: each map's own largest |score|, written above it; none at zero"
    _paragraph(page, 27, f"for · {views[0].scale if len(views) == 1 else own}")


@cache
def _families() -> list[str]:
    found = set(font_manager.get_font_names())
    return [name for name in _FACES if name in found]


@cache
def _glyphs() -> frozenset[int]:
    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in _families()]
    return frozenset(code for font in fonts for code in font.get_charmap())


def _drawable(text: str) -> str:
    """The text with a box for what no face has, rather than matplotlib's warning for each."""
    return "".join(character if ord(character) in _glyphs() else _box(character) for character in text)


def _box(character: str) -> str:
    return "□" + " " * (cell_len(character) - 1) if cell_len(character) else ""
