"""An explanation as HTML: the text itself, each word on its colour; and the page around it, which needs no network.

A word of strength s lies on the end's colour at opacity |s|: zero is the page itself, on white and on black alike.
"""

import re
from html import escape

from explainer.explanation import Explanation, Word
from explainer.rendering.colour import AGAINST, FOR, strengths

STRONG, FULL = 0.645, 0.935  # where the ink changes, so that words stay readable on their colour

STYLE = f"""
:root {{ color-scheme: light dark; --page: #fff; --ink: #111; --word: #000; --rule: #ccc; --soft: #555; }}
body {{ background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2em auto;
  max-width: 75em; padding: 0 1em; }}
h1, h2 {{ line-height: 1.2; }}
a {{ color: inherit; }}
.soft {{ color: var(--soft); }}
.heat {{ white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }}
.heat .w {{ color: var(--word); border-radius: 2px; padding: 1px 0; }}
.heat .w.against.full {{ color: #fff; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --page: #111; --ink: #eee; --word: #fff; --rule: #444; --soft: #aaa; }}
  .heat .w.for.strong {{ color: #000; }}
}}
.long .heat {{ max-height: 14em; overflow: auto; }}
.legend {{ display: inline-block; width: 12em; height: .8em; margin: 0 .6em; border: 1px solid var(--rule);
  background: linear-gradient(to right, rgb{AGAINST}, rgba{(*AGAINST, 0)} 50%, rgba{(*FOR, 0)} 50%, rgb{FOR}); }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; }}
th, td {{ border-bottom: 1px solid var(--rule); padding: .3em .7em; text-align: right; vertical-align: top; }}
th, td {{ white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }}
table.maps {{ width: 100%; }}
table.maps td {{ text-align: left; white-space: normal; }}
table.maps td:first-child {{ width: 1px; white-space: nowrap; }}
details {{ margin: 0 0 1.2em; }}
summary {{ cursor: pointer; }}
pre {{ border: 1px solid var(--rule); padding: .7em; white-space: pre-wrap; overflow-wrap: anywhere; }}
figure {{ margin: 0; }}
figure svg {{ max-width: 100%; height: auto; }}
"""


def render(explanation: Explanation) -> str:
    """The text (both, of a pair) as a fragment: every scored word on its colour, its score in the title."""
    words = explanation.words()
    shades = strengths([word.score for word in words])
    parts = []
    for segment, text in enumerate((explanation.text, explanation.text_pair)):
        if text is not None:
            own = [(word, shade) for word, shade in zip(words, shades, strict=True) if word.segment == segment]
            parts.append(f'<p class="heat">{_coloured(text, own)}</p>')
    return "\n".join(parts)


def _coloured(text: str, words: list[tuple[Word, float]]) -> str:
    pieces, position = [], 0
    for word, shade in words:
        pieces += [escape(text[position : word.start]), _word(text[word.start : word.end], word.score, shade)]
        position = word.end
    return "".join([*pieces, escape(text[position:])])


def _word(text: str, score: float, shade: float) -> str:
    red, green, blue = FOR if shade > 0 else AGAINST
    kind = "for" if shade > 0 else "against" if shade < 0 else "zero"
    depth = " strong full" if abs(shade) > FULL else " strong" if abs(shade) > STRONG else ""
    background = f"background:rgba({red},{green},{blue},{abs(shade):.3f})"
    return f'<span class="w {kind}{depth}" style="{background}" title="{score:+.3g}">{escape(text)}</span>'


def page(title: str, body: str) -> str:
    """One self-contained page: no script, no font, no picture from elsewhere."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def inline(svg: str) -> str:
    """A matplotlib SVG as an element of a page: without prolog, metadata and the addresses of its name spaces."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
