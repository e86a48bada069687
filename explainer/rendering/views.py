"""One text and its maps, by one or several methods or for several classes: shown in every place by the same rules."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions, ConsoleOptions
from rich.text import Text

from explainer.explanation import Explanation
from explainer.rendering.colour import strengths
from explainer.rendering.columns import Column, columns, folded
from explainer.rendering.pieces import Level, Piece, pieces

if TYPE_CHECKING:
    import matplotlib.figure

MAX_WORDS = 100


@dataclass(frozen=True)
class View:
    """Maps of one text, and how to show them: in notebooks, terminals (`print` of rich), pages and figures.

    Attributes:
        maps: the explanations by label; several stand below each other, word below equal word.
        level: `word` or `token`.
        max_words: a longer text is folded to windows around its strongest words; None shows all of it.
        shared: whether the largest |score| of all maps is full colour in each (they must be of one unit), or each
            map's own. By default shared between classes of one method, not between methods.
    """

    maps: Mapping[str, Explanation]
    level: Level = "word"
    max_words: int | None = MAX_WORDS
    shared: bool | None = None

    def __post_init__(self) -> None:
        texts = {(one.text, one.text_pair) for one in self.maps.values()}
        if len(texts) != 1:
            raise ValueError(f"`maps` must be explanations of one text, got {len(texts)} texts.")

    # What is shown

    @property
    def one(self) -> Explanation:
        return next(iter(self.maps.values()))

    @property
    def is_shared(self) -> bool:
        return len({one.method for one in self.maps.values()}) == 1 if self.shared is None else self.shared

    @cached_property
    def largest(self) -> dict[str, float]:
        """The |score| of full colour, by label."""
        own = {
            label: max((abs(piece.score or 0.0) for text in texts for piece in text), default=0.0)
            for label, texts in self._pieces.items()
        }
        return dict.fromkeys(own, max(own.values())) if self.is_shared else own

    @cached_property
    def _pieces(self) -> dict[str, list[list[Piece]]]:
        return {label: pieces(one, self.level) for label, one in self.maps.items()}

    def texts(self, fold: bool = True, widest: int | None = None) -> list[list[Column]]:
        """Of the text, and of the second one of a pair, the columns.

        Args:
            fold: to windows, where the text is long.
            widest: cells of a terminal after which a piece is cut.
        """
        rows = [
            [self._row(label, i, widest) for label in self.maps] for i in range(len(next(iter(self._pieces.values()))))
        ]
        return folded([columns(row) for row in rows], self.max_words if fold else None)

    def _row(self, label: str, text: int, widest: int | None) -> list[Piece]:
        row = self._pieces[label][text]
        shades = strengths([piece.score or 0.0 for piece in row], self.largest[label])
        shaded = [replace(piece, strength=shade) for piece, shade in zip(row, shades, strict=True)]
        return shaded if widest is None else [part for piece in shaded for part in _cut(piece, widest)]

    # What is said about it

    @property
    def headings(self) -> list[tuple[str, str]]:
        """(label, facts) of every map, without the label where the facts begin with it; one where all are the same."""
        found = {label: self._facts(label) for label in self.maps}
        if len(set(found.values())) == 1:
            return [("", next(iter(found.values())))]
        return [(label if label != self.maps[label].target_label else "", facts) for label, facts in found.items()]

    def _facts(self, label: str) -> str:
        """The target and its probability, the method where no label stands for it, another prediction, trust."""
        one = self.maps[label]
        parts = [f"{one.target_label} {percent(one.probabilities[one.target])}"]
        if len(self.maps) == 1 or label == one.target_label:
            parts.append(f"by {one.method}")
        best = max(range(len(one.probabilities)), key=one.probabilities.__getitem__)
        if one.probabilities[best] > one.probabilities[one.target]:
            names = {other.target: other.target_label for other in self.maps.values()}
            parts.append(f"predicted: {names.get(best, f'class {best}')} {percent(one.probabilities[best])}")
        return " · ".join([*parts, *trust(one)])

    @property
    def full(self) -> str:
        """The |score| of full colour: of each map where they differ."""
        values = {label: f"{value:.3g}" for label, value in self.largest.items()}
        if len(self.maps) == 1 or self.is_shared:
            return next(iter(values.values()))
        return ", ".join(f"{label} {value}" for label, value in values.items())

    @property
    def scale(self) -> str:
        """What full colour means."""
        if not any(self.largest.values()):
            return f"no {self.level} has a score other than zero"
        if len(self.maps) == 1:
            return f"full colour: |score| {self.full}, this text's largest {self.level}; none at zero"
        if self.is_shared:
            return (
                f"full colour: |score| {self.full}, the largest {self.level} of all {len(self.maps)} maps; none at zero"
            )
        return f"full colour: each map's own largest |score| ({self.full}); none at zero"

    # Where it is shown

    def _repr_html_(self) -> str:
        from explainer.rendering.html import fragment

        return fragment(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        from explainer.rendering.terminal import render

        yield from render(self, console, options)

    def show(self, width: int | None = None) -> None:
        """Print to the terminal.

        Args:
            width: columns; those of the terminal by default.
        """
        console = Console(width=width)
        if console.is_dumb_terminal:  # rich takes every one for 80 columns, whatever it is told
            console.size = ConsoleDimensions(width or get_terminal_size().columns, 25)
        console.print(self)

    def to_html(self, path: str | Path) -> None:
        """Write one page that opens offline."""
        from explainer.rendering.html import fragment, page

        title = f"{self.one.target_label}: {' '.join(self.one.text.split())[:60]}"
        Path(path).write_text(page(title, fragment(self)), encoding="utf-8", errors="replace")

    def plot(self) -> "matplotlib.figure.Figure":
        """A matplotlib figure."""
        from explainer.rendering.plot import figure

        return figure([self])


def view(explanation: Explanation, **options: Any) -> View:
    """One explanation; options as of `View`."""
    return View({explanation.method: explanation}, **options)


def side_by_side(explanations: Mapping[str, Explanation] | Sequence[Explanation], **options: Any) -> View:
    """Explanations of one text by several methods, or for several classes: equal words stand below each other.

    Args:
        explanations: by label; or a list, whose labels are the methods' names, or the classes' where the method is one.
        options: as of `View`.

    >>> side_by_side(attributor([text, text], target=["positive", "negative"]))  # doctest: +SKIP
    """
    if isinstance(explanations, Mapping):
        return View(explanations, **options)
    return View(dict(zip(_labels(explanations), explanations, strict=True)), **options)


def _labels(explanations: Sequence[Explanation]) -> list[str]:
    """The shortest labels that differ: methods, classes, both, or both with numbers."""
    methods, classes = [one.method for one in explanations], [one.target_label for one in explanations]
    both = [f"{method}, {label}" for method, label in zip(methods, classes, strict=True)]
    for labels in (methods if len(set(methods)) > 1 or len(methods) == 1 else classes, both):
        if len(set(labels)) == len(labels):
            return labels
    return [f"{i}. {label}" for i, label in enumerate(both, start=1)]


def percent(probability: float) -> str:
    """To a tenth of a percent; never 100 or 0 where it is not.

    >>> percent(0.9999), percent(0.75)
    ('>99.9%', '75.0%')
    """
    if 0.9995 <= probability < 1:
        return ">99.9%"
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"


def trust(explanation: Explanation) -> list[str]:
    """Every number of the explanation's `trust`, by its name; none where it has none."""
    value = getattr(explanation, "trust", None)
    named = (
        asdict(value)
        if is_dataclass(value) and not isinstance(value, type)
        else getattr(value, "_asdict", lambda: value)()
    )
    if isinstance(named, Mapping):
        return [f"{name.replace('_', ' ')} {_number(number)}" for name, number in named.items() if number is not None]
    return [] if named is None else [f"trust {_number(named)}"]


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cut(piece: Piece, widest: int) -> Iterable[Piece]:
    """A piece in parts of at most `widest` cells."""
    if cell_len(piece.text) <= widest:
        return [piece]
    parts = [""]
    for character in piece.text:
        if parts[-1] and cell_len(parts[-1] + character) > widest:
            parts.append("")
        parts[-1] += character
    starts = accumulate(map(len, parts[:-1]), initial=piece.start)
    return [
        replace(piece, text=part, start=start, mark=piece.mark if start == piece.start else "")
        for part, start in zip(parts, starts, strict=True)
    ]
