"""A response in the terminal: the answer with its explained part marked, and the messages on their colours."""

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions
from rich.text import Text

from explainer.rendering.columns import lines
from explainer.rendering.pieces import visible
from explainer.rendering.response_layout import ResponseLayout
from explainer.rendering.terminal import Ink, row, scale_line


def render_response(layout: ResponseLayout, console: Console, options: ConsoleOptions) -> Iterator[Text]:
    """The headline, the response, the messages with their roles, and the scale."""
    ink = Ink.of(console, options)
    width = max(8, options.max_width)
    facts = visible("".join(f" · {fact}" for fact in layout.facts))
    yield Text.assemble((visible(layout.headline), "bold"), facts)
    yield _response(layout)
    texts = layout.columns(widest=max(2, width - 6), signed=ink.paper is None)
    for message, text in zip(layout.messages, texts, strict=True):
        yield Text("")
        yield Text(visible(message.role), style="dim bold")
        for line in lines(text, width, ink.measure):
            yield row(line, 0, ink, pad=False)
    yield Text("")
    yield scale_line(ink, layout.scale, bool(layout.largest))


def _response(layout: ResponseLayout) -> Text:
    """The response; its explained part is underlined where it is not all of it."""
    start, end = layout.characters
    before, marked, after = (
        "\n".join(map(visible, part.splitlines())) if part else ""
        for part in (layout.response[:start], layout.response[start:end], layout.response[end:])
    )
    whole = layout.span == (0, len(layout.offsets))
    return Text.assemble(before, (marked, "bold" if whole else "bold underline"), after)
