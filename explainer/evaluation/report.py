"""The report of a comparison: one page with the table, the picture, the same texts by every method, and its making."""

from collections.abc import Mapping, Sequence
from html import escape

from explainer.evaluation.pareto import INK
from explainer.explanation import Explanation
from explainer.rendering.html import fragment, inline, page
from explainer.rendering.views import View, percent

LONG = 600  # characters; a longer text is folded until it is asked for


def report(
    title: str,
    head: Sequence[str],
    cells: Sequence[Sequence[str]],
    note: str,
    picture: str,
    shown: Sequence[Mapping[str, Explanation]],
    making: Mapping[str, str],
) -> str:
    """The page.

    Args:
        head: names of the table's columns; `cells` its rows, and `note` what is to be known to read it.
        picture: the Pareto picture as SVG.
        shown: of each text its explanation by every method, by label.
        making: what it took, by name: the command, the model, the data, the versions.
    """
    picture = inline(picture).replace(INK, "currentColor")
    parts = [
        f"<h1>{escape(title)}</h1>",
        "<h2>How faithful, at what cost</h2>",
        f'<div class="scroll"><table>{_row(head, "th")}{"".join(_row(row, "td") for row in cells)}</table></div>',
        f'<p class="soft">{escape(note)}</p>',
        f"<figure>{picture}</figure>",
        "<h2>The same texts by every method</h2>",
        *(_text(i, maps) for i, maps in enumerate(shown)),
        "<h2>How it was made</h2>",
        f'<table class="making">{"".join(_made(name, value) for name, value in making.items() if name != "summary")}'
        "</table>",
    ]
    return page(title, "\n".join(parts))


def _row(cells: Sequence[str], kind: str) -> str:
    return "<tr>" + "".join(f"<{kind}>{escape(cell).replace(chr(10), '<br>')}</{kind}>" for cell in cells) + "</tr>\n"


def _made(name: str, value: str) -> str:
    return f"<tr><td>{escape(name)}</td><td><pre>{escape(value)}</pre></td></tr>\n"


def _text(number: int, maps: Mapping[str, Explanation]) -> str:
    """One text, a row a method: equal words stand below each other."""
    first = next(iter(maps.values()))
    text = " / ".join(part for part in (first.text, first.text_pair) if part is not None)
    target = f"{first.target_label} {percent(first.probabilities[first.target])}"
    start = text[:80] + ("…" if len(text) > 80 else "")
    return (
        f"<details{'' if len(text) > LONG else ' open'}><summary>{number + 1}. "
        f'<b>{escape(target)}</b> <span class="soft">{escape(start)}</span></summary>\n'
        f"{fragment(View(maps, shared=False), style=False)}</details>"
    )
