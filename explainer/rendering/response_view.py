"""The view of an explained response: it shows itself in notebooks, terminals and pages."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions
from rich.text import Text

from explainer.rendering.response_html import response_fragment, response_page
from explainer.rendering.response_layout import ResponseLayout
from explainer.rendering.response_terminal import render_response
from explainer.rendering.views import printed


@dataclass(frozen=True, eq=False)
class ResponseView(ResponseLayout):
    """A response's layout that can be shown: the last line of a notebook's cell, `print` of rich, a page.

    Attributes as of `ResponseLayout`.
    """

    def _repr_html_(self) -> str:
        return response_fragment(self)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        yield from render_response(self, console, options)

    def show(self, width: int | None = None) -> None:
        """Print to the terminal.

        Args:
            width: columns; those of the terminal by default.
        """
        printed(self, width)

    def to_html(self, path: str | Path) -> None:
        """Write one page that opens offline. With a table, a click or a drag over the response picks another part."""
        Path(path).write_text(response_page(self), encoding="utf-8", errors="replace")
