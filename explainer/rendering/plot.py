"""Layouts as a matplotlib figure: one block per text, every word on its colour, and the scale below."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from textwrap import wrap
from typing import Any

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.cells import cell_len, set_cell_size

from explainer.rendering.colour import RGB, WHITE, colour, ink_on
from explainer.rendering.columns import Column, lines
from explainer.rendering.layout import Heading, Layout
from explainer.rendering.pieces import visible
from explainer.scored_text import ScoredText

_COLUMNS, _LABEL = 96, 20  # characters of a line, and of a label at most
_POINTS = 10.763  # a character is nine pixels wide at 100 dots per inch, as in TensorBoard: words end where they should
_CHARACTER, _LINE, _EDGE = 0.602 * _POINTS / 72, 0.24, 0.15  # inches
_SOFT = "#555555"
# One face per script, where it is installed; a character that none of them has is drawn as a box.
_FACES = (
    *("DejaVu Sans Mono", "Noto Sans Mono CJK SC", "Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans"),
    *("PingFang SC", "Hiragino Sans", "Microsoft YaHei", "MS Gothic", "Malgun Gothic", "WenQuanYi Micro Hei"),
    *("DejaVu Sans", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "Segoe UI Symbol"),
)


def heatmap(
    explanations: Sequence[ScoredText], labels: Sequence[str] | None = None, max_words: int | None = 60
) -> Figure:
    """One block per explanation; with labels, explanations of one text that follow each other share a block.

    Args:
        labels: what is written before the lines of each explanation.
        max_words: a longer text is folded to windows around its strongest words; None shows all of it.
    """
    if labels is None:
        return figure([Layout({one.caption.method: one}, max_words=max_words) for one in explanations])
    pairs = groupby(zip(labels, explanations, strict=True), lambda pair: (pair[1].text, pair[1].text_pair))
    return figure([Layout(dict(group), max_words=max_words, shared=False) for _, group in pairs])


def figure(layouts: Sequence[Layout]) -> Figure:
    """The layouts below each other, and the meaning of the colours; as high as they need."""
    page = _Page()
    for layout in layouts:
        _block(page, layout, alone=len(layouts) == 1)
    if layouts:
        _key(page, layouts)
    return page.figure()


@dataclass(frozen=True)
class _Drawn:
    """Text at a column and a row, on its colour where it has one."""

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


def _block(page: _Page, layout: Layout, alone: bool) -> None:
    start = 0 if layout.is_single else min(_LABEL, max(map(cell_len, layout.scored))) + 2
    for heading in layout.headings:
        _heading(page, heading, () if alone else (f"full colour {layout.full}",))
    for text in layout.texts(widest=_COLUMNS - start - 4):
        page.row += 0.35
        for line in lines(text, _COLUMNS - start, _measure):
            for number, label in enumerate(layout.scored if line or layout.is_single else ()):
                if not layout.is_single:
                    page.write(0, _short(label), ink=_SOFT)
                _row(page, start, number, line)
                page.row += 1
            page.row += 0 if layout.is_single else 0.35
    page.row += 0.9


def _heading(page: _Page, heading: Heading, further: tuple[str, ...]) -> None:
    headline = visible(heading.headline)
    start = cell_len(_short(heading.label)) + 2 if heading.label else 0
    page.write(0, _short(heading.label), ink=_SOFT)
    page.write(start, headline, weight="bold")
    _paragraph(page, start + cell_len(headline) + 2, " · ".join([*heading.facts, *further]))


def _paragraph(page: _Page, start: int, text: str) -> None:
    for line in wrap(visible(text), _COLUMNS - start) or [""]:
        page.write(start, line, ink=_SOFT)
        page.row += 1


def _short(label: str) -> str:
    label = visible(label)
    return label if cell_len(label) <= _LABEL else set_cell_size(label, _LABEL - 1) + "…"


def _row(page: _Page, start: int, number: int, line: Sequence[Column]) -> None:
    for column in line:
        if column.omitted:
            page.write(start, column.ellipsis, ink=_SOFT)
        at = start
        for piece in column.rows[number] if column.rows else ():
            paper = colour(piece.strength) if piece.strength else None
            dark = paper is not None and ink_on(paper) == WHITE
            page.write(at, piece.shown, paper, "white" if dark else "black")
            at += cell_len(piece.shown)
        start += _measure(column)


def _measure(column: Column) -> int:
    if column.omitted:
        return cell_len(column.ellipsis)
    return max(sum(cell_len(piece.shown) for piece in row) for row in column.rows)


def _key(page: _Page, layouts: Sequence[Layout]) -> None:
    page.write(0, "against", ink=_SOFT)
    for step in range(-8, 9):
        page.write(9 + step + 8, " ", colour(step / 8))
    own = "full colour: the largest |score| of each, written above it; none at zero"
    _paragraph(page, 27, f"for · {layouts[0].scale if len(layouts) == 1 else own}")


@cache
def _families() -> list[str]:
    installed = set(font_manager.get_font_names())
    return [name for name in _FACES if name in installed]


@cache
def _glyphs() -> frozenset[int]:
    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in _families()]
    return frozenset(code for font in fonts for code in font.get_charmap())


def _drawable(text: str) -> str:
    """The text with a box in place of each character that no face has; matplotlib would warn of every one."""
    boxes = {0: "", 1: "□", 2: "□ "}  # by the cells of the character
    return "".join(character if ord(character) in _glyphs() else boxes[cell_len(character)] for character in text)
