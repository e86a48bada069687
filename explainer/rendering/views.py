"""Views: a layout that shows itself in notebooks, terminals, pages and figures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleDimensions, ConsoleOptions
from rich.text import Text

from explainer.extras import import_optional
from explainer.rendering.html import fragment, page
from explainer.rendering.layout import Layout, labels_of
from explainer.rendering.terminal import render
from explainer.scored_text import ScoredText

if TYPE_CHECKING:
    import matplotlib.figure


@dataclass(frozen=True)
class View(Layout):
    """A layout that can be shown: the last line of a notebook's cell, `print` of rich, a page, a figure.

    Attributes as of `Layout`.
    """

    def _repr_html_(self) -> str:
        return fragment(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield from render(self, console, options)

    def show(self, width: int | None = None) -> None:
        """Print to the terminal.

        Args:
            width: columns; those of the terminal by default.
        """
        printed(self, width)

    def to_html(self, path: str | Path) -> None:
        """Write one page that opens offline."""
        Path(path).write_text(page(self.title, fragment(self)), encoding="utf-8", errors="replace")

    def plot(self) -> "matplotlib.figure.Figure":
        """A matplotlib figure."""
        return import_optional("explainer.rendering.plot").figure([self])


def printed(shown: object, width: int | None) -> None:
    """Print to the terminal, in `width` columns; by default in those of the terminal."""
    console = Console(width=width)
    if console.is_dumb_terminal:  # rich takes 80 columns for these, whatever `width` says
        console.size = ConsoleDimensions(width or get_terminal_size().columns, 25)
    console.print(shown)


def view(explanation: ScoredText, **options: Any) -> View:
    """The view of one explanation; options as of `View`."""
    return View({explanation.caption.method: explanation}, **options)


def side_by_side(explanations: Mapping[str, ScoredText] | Sequence[ScoredText], **options: Any) -> View:
    """Explanations of one text by several methods, or for several targets: equal words stand below each other.

    Args:
        explanations: by label; or a list, whose labels are the methods' names, or the targets' where the method is one.
        options: as of `View`.

    >>> side_by_side(attributor([text, text], target=["positive", "negative"]))  # doctest: +SKIP
    """
    if not isinstance(explanations, Mapping):
        explanations = dict(zip(labels_of(explanations), explanations, strict=True))
    return View(explanations, **options)
