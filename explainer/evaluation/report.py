"""The report of a comparison: one page with the table, the picture, the same texts by every method, and the run."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from explainer.evaluation.pareto import INK
from explainer.explanation import ImageExplanation
from explainer.rendering import View
from explainer.rendering.html import fragment, inline, page
from explainer.rendering.image import image_fragment
from explainer.scored_text import ScoredText

LONG = 600  # characters; a longer text is folded until the reader opens it


def report(
    title: str,
    head: Sequence[str],
    cells: Sequence[Sequence[str]],
    caption: str,
    picture: str,
    shown: Sequence[Mapping[str, ScoredText] | Mapping[str, ImageExplanation]],
    run: Mapping[str, str],
) -> str:
    """The page.

    Args:
        head: names of the table's columns; `cells` its rows, and `caption` what a reader must know of its numbers.
        picture: the Pareto picture as SVG.
        shown: per text or image its explanations by the label of their method.
        run: facts about how the numbers were made, by name: the command, the model, the data, the versions. `summary`
            is left out.
    """
    picture = inline(picture).replace(INK, "currentColor")
    facts = "".join(_fact(name, value) for name, value in run.items() if name != "summary")
    parts = [
        f"<h1>{escape(title)}</h1>",
        "<h2>How faithful, at what cost</h2>",
        f'<div class="scroll"><table>{_row(head, "th")}{"".join(_row(row, "td") for row in cells)}</table></div>',
        f'<p class="soft">{escape(caption)}</p>',
        f"<figure>{picture}</figure>",
        "<h2>The same inputs by every method</h2>",
        *(_shown(i, explanations) for i, explanations in enumerate(shown)),
        "<h2>How it was made</h2>",
        f'<table class="making">{facts}</table>',
    ]
    return page(title, "\n".join(parts))


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell).replace(chr(10), '<br>')}</{tag}>" for cell in cells) + "</tr>\n"


def _fact(name: str, value: str) -> str:
    return f"<tr><td>{escape(name)}</td><td><pre>{escape(value)}</pre></td></tr>\n"


def _shown(number: int, explanations: Mapping[str, Any]) -> str:
    """One text or image by every method."""
    first = next(iter(explanations.values()))
    if isinstance(first, ImageExplanation):
        parts = [
            image_fragment(f"{label}: {one.caption}", one.picture, one.table) for label, one in explanations.items()
        ]
        return _folding(number, first.target_label, first.image, "\n".join(parts), folded=False)
    text = " / ".join(first.texts)
    # With a row per method, equal words are below each other.
    body = fragment(View(explanations, shared=False), style=False)
    return _folding(number, first.caption.headline, text, body, folded=len(text) > LONG)


def _folding(number: int, headline: str, text: str, body: str, folded: bool) -> str:
    start = text[:80] + ("…" if len(text) > 80 else "")
    return (
        f"<details{'' if folded else ' open'}><summary>{number + 1}. "
        f'<b>{escape(headline)}</b> <span class="soft">{escape(start)}</span></summary>\n{body}</details>'
    )
