"""A layout as HTML: the text itself, each word on its colour; and a page around it, which needs no network.

A word of strength s has its colour at opacity |s|, so that zero is the page's own colour, white or black. There is no
script: folded texts open by the element `details`. The style sheet draws the marks of tokens, so that copying gives the
text alone.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from unicodedata import bidirectional

from rich.cells import cell_len

from explainer.rendering.colour import AGAINST, FOR
from explainer.rendering.columns import Column, lines
from explainer.rendering.layout import Heading, Layout
from explainer.rendering.pieces import Piece

STRONG, FULL = 0.645, 0.935  # opacities at which the ink changes, so that words stay readable on their colour
LINE = 76  # characters of a line, where several labels are shown below each other
_LIGHT = "--paper: #fff; --ink: #111; --word: #000; --rule: #ccc; --soft: #555;"
_DARK = "--paper: #111; --ink: #eee; --word: #fff; --rule: #444; --soft: #aaa;"

# All rules are below .amortex, paper and ink too, so that a fragment is readable in a notebook of any theme.
FRAGMENT_STYLE = f"""
.amortex {{ {_LIGHT} color-scheme: light dark; background: var(--paper); color: var(--ink); padding: .5em .7em;
  font: 15px/1.6 system-ui, sans-serif; text-align: left; }}
@media (prefers-color-scheme: dark) {{ .amortex {{ {_DARK} }} }}
[data-jp-theme-light="true"] .amortex, .vscode-light .amortex, html[theme="light"] .amortex {{ {_LIGHT} }}
[data-jp-theme-light="false"] .amortex, .vscode-dark .amortex, html[theme="dark"] .amortex {{ {_DARK} }}
.amortex p {{ margin: .3em 0; }}
.amortex .facts, .amortex .key {{ font-size: .87em; color: var(--soft); }}
.amortex .facts b {{ color: var(--ink); }}
.amortex .heat {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
.amortex .heat + .heat, .amortex .lines + .lines {{ border-top: 1px solid var(--rule); padding-top: .4em; }}
.amortex .w {{ color: var(--word); border-radius: 2px; padding: 1px 0; print-color-adjust: exact;
  -webkit-box-decoration-break: clone; box-decoration-break: clone; }}
.amortex .w.for.strong {{ color: #000; }}
.amortex .w.against.full {{ color: #fff; }}
.amortex.token .w {{ box-shadow: -1px 0 var(--rule); }}
.amortex .w[data-mark]::before {{ content: attr(data-mark); opacity: .75; font-size: .8em; }}
.amortex .blank {{ position: relative; }}
.amortex .blank::before {{ content: "␣"; position: absolute; opacity: .6; }}
.amortex .omitted {{ color: var(--soft); font-style: italic; white-space: nowrap; }}
.amortex .lines {{ overflow-x: auto; margin: .3em 0; }}
.amortex .line {{ display: table; border-spacing: 0; min-height: .1em; margin: 0 0 .55em; line-height: 1.5; }}
.amortex .row {{ display: table-row; }}
.amortex .row > span {{ display: table-cell; white-space: pre; }}
.amortex .row > .label {{ width: var(--label); min-width: var(--label); max-width: var(--label); font-size: .87em;
  color: var(--soft); overflow: hidden; text-overflow: ellipsis; padding-inline-end: 1em; box-sizing: border-box;
  position: sticky; inset-inline-start: 0; background: var(--paper); }}
.amortex details > summary {{ cursor: pointer; list-style-position: outside; }}
.amortex details[open] > summary .folded {{ display: none; }}
.amortex summary .folded > * {{ display: block; }}
.amortex .more {{ font-size: .87em; color: var(--soft); text-decoration: underline; }}
.amortex .more::before {{ content: attr(data-closed); }}
.amortex details[open] > summary .more::before {{ content: attr(data-open); }}
.amortex .scale {{ display: inline-block; width: 9em; height: .8em; margin: 0 .5em; border: 1px solid var(--rule);
  vertical-align: -.05em; print-color-adjust: exact;
  background: linear-gradient(to right, rgb{AGAINST}, rgba{(*AGAINST, 0)} 50%, rgba{(*FOR, 0)} 50%, rgb{FOR}); }}
@media print, (forced-colors: active) {{
  .amortex .w.for {{ text-decoration: underline; }}
  .amortex .w.against {{ text-decoration: line-through; }}
}}
"""

STYLE = f"""
:root {{ {_LIGHT} color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
body {{ background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2em auto;
  max-width: 75em; padding: 0 1em; }}
h1, h2 {{ line-height: 1.2; }}
a {{ color: inherit; }}
.soft {{ color: var(--soft); }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }}
th, td {{ border-bottom: 1px solid var(--rule); padding: .3em .7em; text-align: right; vertical-align: top; }}
th, td {{ white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
table.making {{ width: 100%; }}
table.making td {{ text-align: left; white-space: normal; }}
table.making td:first-child {{ width: 1px; white-space: nowrap; }}
details {{ margin: 0 0 1.2em; }}
summary {{ cursor: pointer; }}
pre {{ border: 1px solid var(--rule); padding: .7em; white-space: pre-wrap; overflow-wrap: anywhere; }}
figure {{ margin: 0; }}
figure svg {{ max-width: 100%; height: auto; }}
{FRAGMENT_STYLE}"""


def fragment(layout: Layout, style: bool = True) -> str:
    """The headings, the text (folded where it is long) with the scores of each label, and the scale.

    Args:
        style: whether to include the style sheet, as a notebook needs it.
    """
    parts = [f"<style>{FRAGMENT_STYLE}</style>"] if style else []
    parts += [_heading(heading) for heading in layout.headings]
    parts += [_body(layout), _key(layout)]
    return f'<div class="amortex {layout.level}">{chr(10).join(parts)}</div>'


def _heading(heading: Heading) -> str:
    name = f"{escape(heading.label)}: " if heading.label else ""
    facts = escape("".join(f" · {fact}" for fact in heading.facts))
    return f'<p class="facts">{name}<b>{escape(heading.headline)}</b>{facts}</p>'


def _body(layout: Layout) -> str:
    widest = None if layout.is_single else LINE
    whole, shown = layout.texts(fold=False, widest=widest), layout.texts(widest=widest)
    return folding(whole, shown, partial(_texts, layout))


def folding(
    whole: Sequence[Sequence[Column]],
    shown: Sequence[Sequence[Column]],
    drawn: Callable[[Sequence[Sequence[Column]], str], str],
) -> str:
    """The whole texts; where words of them are folded away, an element that opens them.

    Args:
        shown: the texts, folded.
        drawn: texts as HTML, in elements of that tag; inside a `summary` it is one of running text.
    """
    if not any(column.omitted for text in shown for column in text):
        return drawn(whole, "p")
    words = f"{sum(column.words for text in whole for column in text):,}"
    return (
        f'<details><summary><span class="folded">{drawn(shown, "span")}</span>'
        f'<span class="more" data-closed="show all {words} words" data-open="show less"></span></summary>'
        f"{drawn(whole, 'p')}</details>"
    )


def _texts(layout: Layout, texts: Sequence[Sequence[Column]], tag: str) -> str:
    if layout.is_single:
        return "".join(f'<{tag} class="heat" dir="auto">{_running(text)}</{tag}>' for text in texts)
    box = "div" if tag == "p" else "span"
    return "".join(f'<{box} class="lines">{_lines(layout, text)}</{box}>' for text in texts)


def _running(text: Sequence[Column]) -> str:
    return "".join(ellipsis(column) or "".join(map(_piece, column.rows[0])) for column in text)


def _lines(layout: Layout, text: Sequence[Column]) -> str:
    """The text in lines, each with one row per label; from the right where the text is written so."""
    label = min(max(map(cell_len, layout.scored)), 24) + 2
    start = f'<span class="line" style="--label: {label}ch" dir="{_direction(text)}">'
    parts = []
    for line in lines(text, LINE, _measure):
        rows = (f'<span class="row">{_row(name, i, line)}</span>' for i, name in enumerate(layout.scored) if line)
        parts.append(f"{start}{''.join(rows)}</span>")
    return "".join(parts)


def _direction(text: Sequence[Column]) -> str:
    """The direction of the first letter that has one, as browsers find it."""
    kinds = (bidirectional(character) for column in text for character in column.text)
    return "rtl" if next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L" else "ltr"


def _row(label: str, number: int, line: Sequence[Column]) -> str:
    name = f'<span class="label" title="{escape(label)}">{escape(label)}</span>'
    cells = (ellipsis(column) or "".join(map(_piece, column.rows[number])) for column in line)
    return name + "".join(f'<span class="cell">{cell}</span>' for cell in cells)


def _measure(column: Column) -> int:
    if column.omitted:
        return cell_len(column.ellipsis)
    return max(cell_len("".join(piece.mark + piece.text for piece in row)) for row in column.rows)


def ellipsis(column: Column) -> str:
    """What stands for folded words; nothing for a column of text."""
    return f'<span class="omitted">{column.ellipsis}</span>' if column.omitted else ""


def _piece(piece: Piece) -> str:
    if piece.score is None:
        return escaped(piece.text)
    title = escape(" ".join([*piece.tokens, f"{piece.score:+.3g}" if piece.score else "0"]))
    mark = f' data-mark="{escape(piece.mark)}"' if piece.mark else ""
    kind, background = painted(piece.strength)
    return f'<span class="w {kind}" style="{background}" title="{title}"{mark}>{_blanks(piece)}</span>'


def painted(strength: float) -> tuple[str, str]:
    """The classes and the style of what has this strength."""
    red, green, blue = FOR if strength > 0 else AGAINST
    depth = abs(strength)
    kind = "for" if strength > 0 else "against" if strength < 0 else "zero"
    kind += " strong full" if depth > FULL else " strong" if depth > STRONG else ""
    return kind, f"background:rgba({red},{green},{blue},{depth:.3f})"


def _blanks(piece: Piece) -> str:
    """The text, with a sign drawn over white space that a token begins with."""
    edge = len(piece.text) - len(piece.text.lstrip(" ")) if piece.tokens else 0
    return '<span class="blank"> </span>' * edge + escaped(piece.text[edge:])


def escaped(text: str) -> str:
    """The text as HTML; a reader would turn a bare carriage return into a line feed, and refuse NUL."""
    return escape(text).replace("\r", "&#13;").replace("\0", "\ufffd")


def _key(layout: Layout) -> str:
    target, scale = escape(layout.target), escape(layout.scale)
    return f'<p class="key">against <span class="scale"></span> for {target} · {scale}</p>'


def page(title: str, body: str, head: str = "") -> str:
    """One self-contained page: no font, no picture, no script from elsewhere.

    Args:
        head: further elements of the page's head.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>{head}
</head>
<body>
{body}
</body>
</html>
"""


def inline(svg: str) -> str:
    """A matplotlib SVG as an element of a page: without prolog, metadata and addresses of name spaces."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
