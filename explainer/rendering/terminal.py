"""A layout in the terminal: the text itself, each word on its colour; without colours, behind signs of its strength.

The environment variable COLORFGBG, which many terminals set, decides between the light and the dark palette. Both the
ink and the paper of a word are written, so that it can be read on either.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.text import Text

from explainer.rendering.colour import RGB, WHITE, colour, ink_on
from explainer.rendering.columns import Column, lines
from explainer.rendering.layout import Heading, Layout
from explainer.rendering.pieces import Piece, visible

DARK: RGB = (24, 24, 24)
MARKED = 0.1  # of full strength: with signs below it, nearly every word would have one
_LABEL = 24  # cells at most
_STEPS = 6  # of the scale, either side


@dataclass(frozen=True)
class Ink:
    """How strengths are shown: as colours over `paper`; or, where `paper` is None, by one to three signs."""

    paper: RGB | None
    plus: str = "+"
    minus: str = "−"

    @classmethod
    def of(cls, console: Console, options: ConsoleOptions) -> "Ink":
        if not console.no_color and console.color_system in ("256", "truecolor"):
            return cls(DARK if is_dark(os.environ) else WHITE)
        return cls(None, minus="-" if options.ascii_only else "−")

    def signs(self, strength: float) -> str:
        """Nothing below a tenth of full strength, one sign below a third, two below two thirds, three above."""
        if abs(strength) < MARKED or self.paper is not None:
            return ""
        return (self.plus if strength > 0 else self.minus) * min(3, 1 + int(3 * abs(strength)))

    def style(self, strength: float) -> str:
        if strength == 0 or self.paper is None:
            return ""
        background = colour(strength, self.paper)
        return "rgb({},{},{}) on rgb({},{},{})".format(*ink_on(background), *background)

    def shown(self, piece: Piece) -> str:
        return self.signs(piece.strength) + piece.shown

    def measure(self, column: Column) -> int:
        """The cells that a column takes."""
        if column.omitted:
            return cell_len(column.ellipsis)
        return max(sum(cell_len(self.shown(piece)) for piece in row) for row in column.rows)


def is_dark(environment: Mapping[str, str]) -> bool:
    """Whether the terminal's paper is dark, by COLORFGBG (`15;0`: white on black); dark where it is not set.

    >>> is_dark({"COLORFGBG": "0;15"}), is_dark({})
    (False, True)
    """
    paper = environment.get("COLORFGBG", "").split(";")[-1]
    return not (paper.isdecimal() and (int(paper) == 7 or int(paper) > 8))


def render(layout: Layout, console: Console, options: ConsoleOptions) -> Iterator[Text]:
    """The headings, the lines of the text with the scores of each label, and the scale."""
    ink, several = Ink.of(console, options), not layout.is_single
    label = min(_LABEL, max(map(cell_len, layout.scored))) if several else 0
    width = max(8, options.max_width - (label + 1 if several else 0))
    yield from map(_heading, layout.headings)
    for number, text in enumerate(layout.texts(widest=max(2, width - 6))):
        if number or several:
            yield Text("")
        for line in lines(text, width, ink.measure):
            yield from _labelled(layout, line, ink, label) if several else [row(line, 0, ink, pad=False)]
    if not several:
        yield Text("")
    yield scale_line(ink, layout.scale, any(layout.largest.values()))


def _heading(heading: Heading) -> Text:
    name = f"{visible(heading.label)}: " if heading.label else ""
    facts = visible("".join(f" · {fact}" for fact in heading.facts))
    return Text.assemble(name, (visible(heading.headline), "bold"), facts)


def _labelled(layout: Layout, line: Sequence[Column], ink: Ink, label: int) -> Iterator[Text]:
    """The line once per label, and a blank line below."""
    for number, name in enumerate(layout.scored if line else ()):
        name = name if cell_len(name) <= label else set_cell_size(name, label - 1) + "…"
        yield Text(set_cell_size(visible(name), label) + " ") + row(line, number, ink, pad=True)
    yield Text("")


def row(line: Sequence[Column], number: int, ink: Ink, pad: bool) -> Text:
    """One line of a text by the scores of one label.

    Args:
        pad: fill each column up to its width, so that the rows of several labels stand below each other.
    """
    shown = Text(no_wrap=True, overflow="fold")
    for column in line:
        if column.omitted:
            shown.append(column.ellipsis, style="italic")
            continue
        pieces = column.rows[number]
        written = sum(cell_len(ink.shown(piece)) for piece in pieces)
        shown.append(" " * (ink.measure(column) - written) if pad else "")
        for piece in pieces:
            shown.append(ink.shown(piece), style=ink.style(piece.strength))
    return shown


def scale_line(ink: Ink, scale: str, has_scores: bool) -> Text:
    """The line below a text: which colour, or sign, means what."""
    if not has_scores:
        return Text(scale)
    if ink.paper is None:
        three, two, full = 3 * ink.plus, 2 * ink.plus, scale.replace("full colour", "full strength")
        signs = f"{three} for, {3 * ink.minus} against from 2/3 of full strength, {two} from 1/3, {ink.plus} from 1/10"
        return Text(f"{signs} · {full.removesuffix('; none at zero')}")
    steps = [step / _STEPS for step in range(-_STEPS, _STEPS + 1)]
    return Text.assemble("against ", *((" ", ink.style(step)) for step in steps), f" for · {scale}")
