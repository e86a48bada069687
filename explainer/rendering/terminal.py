"""A view in the terminal: the text itself, each word on its colour; where there is no colour, behind its sign.

Light or dark is asked of COLORFGBG, which many terminals set; both inks and papers of a word are given, so that it
is readable on either.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions
from rich.text import Text

from explainer.rendering.colour import RGB, WHITE, colour, ink
from explainer.rendering.columns import Column, lines
from explainer.rendering.pieces import Piece, visible
from explainer.rendering.views import View

DARK: RGB = (24, 24, 24)
MARKED = 0.1  # of full strength: below it no sign is written, which would be one before every word
_LABEL = 24  # cells at most
_STEPS = 6  # of the scale, either side


@dataclass(frozen=True)
class Ink:
    """How strengths are shown: on colours over `paper`; or, where `paper` is None, by one to three signs."""

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
        return "rgb({},{},{}) on rgb({},{},{})".format(*ink(background), *background)

    def shown(self, piece: Piece) -> str:
        return self.signs(piece.strength) + piece.shown


def is_dark(environment: Mapping[str, str]) -> bool:
    """Whether the terminal's paper is dark, by COLORFGBG (`15;0`: white on black); dark where nobody says.

    >>> is_dark({"COLORFGBG": "0;15"}), is_dark({})
    (False, True)
    """
    paper = environment.get("COLORFGBG", "").split(";")[-1]
    return not (paper.isdecimal() and (int(paper) == 7 or int(paper) > 8))


def render(view: View, console: Console, options: ConsoleOptions) -> Iterator[Text]:
    """Line by line: what is explained, the text under every map, and the scale."""
    how = Ink.of(console, options)
    several = len(view.maps) > 1
    label = min(_LABEL, max(map(cell_len, view.maps))) if several else 0
    width = max(8, options.max_width - (label + 1 if several else 0))
    yield from (_facts(name, facts) for name, facts in view.headings)
    for number, text in enumerate(view.texts(widest=max(2, width - 6))):
        if number or several:
            yield Text("")
        for line in lines(text, width, lambda column: _measure(column, how)):
            yield from _rows(view, line, how, label) if several else [_row(line, 0, how, pad=False)]
    yield from ([] if several else [Text("")])
    yield _key(view, how)


def _facts(label: str, facts: str) -> Text:
    first, *others = facts.split(" · ")
    name = f"{visible(label)}: " if label else ""
    return Text.assemble(name, (visible(first), "bold"), visible("".join(f" · {part}" for part in others)))


def _rows(view: View, line: Sequence[Column], how: Ink, label: int) -> Iterator[Text]:
    """A line of every map, and a blank one below where there are several lines."""
    for number, name in enumerate(view.maps if line else ()):
        name = name if cell_len(name) <= label else set_cell_size(name, label - 1) + "…"
        yield Text(set_cell_size(visible(name), label) + " ") + _row(line, number, how, pad=True)
    yield Text("")


def _row(line: Sequence[Column], number: int, how: Ink, pad: bool) -> Text:
    shown = Text(no_wrap=True, overflow="fold")
    for column in line:
        if column.omitted:
            shown.append(column.ellipsis, style="italic")
            continue
        pieces = column.rows[number]
        written = sum(cell_len(how.shown(piece)) for piece in pieces)
        shown.append(" " * (_measure(column, how) - written) if pad else "")
        for piece in pieces:
            shown.append(how.shown(piece), style=how.style(piece.strength))
    return shown


def _measure(column: Column, how: Ink) -> int:
    if column.omitted:
        return cell_len(column.ellipsis)
    return max(sum(cell_len(how.shown(piece)) for piece in row) for row in column.rows)


def _key(view: View, how: Ink) -> Text:
    if not any(view.largest.values()):
        return Text(view.scale)
    if how.paper is None:
        three, two, full = 3 * how.plus, 2 * how.plus, view.scale.replace("full colour", "full strength")
        signs = f"{three} for, {3 * how.minus} against from 2/3 of full strength, {two} from 1/3, {how.plus} from 1/10"
        return Text(f"{signs} · {full.removesuffix('; none at zero')}")
    steps = [step / _STEPS for step in range(-_STEPS, _STEPS + 1)]
    return Text.assemble("against ", *((" ", how.style(step)) for step in steps), f" for · {view.scale}")
