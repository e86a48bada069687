"""A response as HTML: the answer on top, the prompt's messages on their colours below it.

The fragment has no script. The page has one when it holds the scores of every token of the response: a click or a drag
over the response then picks the part that is explained. The page's content security policy names that one script by its
hash, so that nothing else runs and nothing is loaded.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import partial
from html import escape
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from explainer.rendering.colour import AGAINST, FOR
from explainer.rendering.columns import Column
from explainer.rendering.html import FRAGMENT_STYLE, FULL, STRONG, ellipsis, escaped, folding, page, painted
from explainer.rendering.response_layout import CONTEXT, TOP, ResponseLayout, TokenTable
from explainer.rendering.response_script import SCRIPT

_SPACE = re.compile(r"\s+")

RESPONSE_STYLE = """
.amortex.response { max-width: 60em; margin: 0 auto; }
.amortex .answer { border: 1px solid var(--rule); border-radius: 8px; padding: .6em .9em .7em; margin: 0 0 .8em;
  background: var(--paper); }
.amortex .said { font-size: 1.13em; line-height: 1.75; white-space: pre-wrap; overflow-wrap: anywhere; margin: .2em 0; }
.amortex .said .t { border-radius: 3px; padding: .12em 0; }
.amortex .said .in { text-decoration: underline; text-decoration-thickness: 2px; text-underline-offset: .25em;
  font-weight: 600; }
.amortex .said.whole .in { text-decoration: none; font-weight: inherit; }
.amortex .role { display: inline-block; font-size: .78em; letter-spacing: .04em; color: var(--soft);
  border: 1px solid var(--rule); border-radius: 1em; padding: 0 .7em; margin: 0 0 .2em; }
.amortex .message { border-inline-start: 3px solid var(--rule); padding: .1em 0 .1em .9em; margin: 0 0 1em; }
.amortex .message .heat { margin: 0; line-height: 1.75; }
.amortex summary .message, .amortex summary .heat { display: block; }
.amortex .top { list-style: none; margin: .5em 0 0; padding: 0; font-size: .93em; }
.amortex .top li { display: grid; grid-template-columns: 5.5em 4.2em 1fr; gap: .7em; align-items: center;
  padding: .1em 0; }
.amortex .top .bar { height: .75em; border-radius: 2px; justify-self: end; min-width: 2px; print-color-adjust: exact; }
.amortex .top .number { text-align: end; font-variant-numeric: tabular-nums; }
.amortex .top .what { color: var(--soft); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.amortex .top .what b { color: var(--ink); font-weight: 600; }
.amortex .top .none { display: block; color: var(--soft); }
@media (max-width: 32em) {
  .amortex.response { padding: .4em .2em; }
  .amortex .top li { grid-template-columns: 3em 4.4em 1fr; gap: .5em; }
  .amortex .message { padding-inline-start: .6em; }
}
"""

PAGE_STYLE = """
body { max-width: 62em; margin: 1.2em auto; }
.amortex.live .answer { position: sticky; top: 0; z-index: 2; box-shadow: 0 6px 14px -10px rgba(0, 0, 0, .5); }
.amortex.live .said { max-height: 32vh; overflow-y: auto; touch-action: pan-y; outline-offset: .3em; }
.amortex.live .said .t { cursor: pointer; }
.amortex.live .said .t:hover { background: var(--hover); }
.amortex.live .said .in, .amortex.live .said .in:hover { background: var(--picked); }
.amortex.live .said.whole .in { background: none; }
.amortex.live .said.whole .in:hover { background: var(--hover); }
.amortex.live .said.dragging { user-select: none; -webkit-user-select: none; }
.amortex.live { --hover: rgba(128, 128, 128, .22); --picked: rgba(128, 128, 128, .16); }
.amortex.live .top li[data-s] { cursor: pointer; }
.amortex.live .top li[data-s]:hover { background: var(--hover); border-radius: 3px; }
.amortex.live button { font: inherit; color: inherit; background: none; border: 1px solid var(--rule);
  border-radius: 1em; padding: 0 .8em; cursor: pointer; }
.amortex.live button:hover { background: var(--hover); }
.amortex.live button:disabled { opacity: .45; cursor: default; background: none; }
.amortex.live button.gap { border: 0; border-radius: 3px; padding: 0 .3em; color: var(--soft); font-style: italic; }
.amortex.live .tools { display: flex; flex-wrap: wrap; gap: .4em .7em; align-items: baseline; font-size: .87em;
  color: var(--soft); margin: .3em 0 0; }
@media not (hover: hover) { .amortex.live .pointer { display: none; } }
.amortex.live .away { display: none; }
.amortex.live .w.flash { outline: 2px solid var(--ink); outline-offset: 1px; }
.amortex.live .message { scroll-margin-top: 14em; }
@media print { .amortex.live .answer { position: static; } .amortex.live .tools { display: none; } }
"""


def response_fragment(layout: ResponseLayout, style: bool = True) -> str:
    """The response with its explained part marked, the strongest sources, the messages, and the scale.

    Args:
        style: whether to include the style sheet, as a notebook needs it.
    """
    parts = [f"<style>{FRAGMENT_STYLE}{RESPONSE_STYLE}</style>"] if style else []
    parts += [_answer(layout, _said(layout)), _prompt(layout), _key(layout)]
    return f'<div class="amortex response">{chr(10).join(parts)}</div>'


def response_page(layout: ResponseLayout) -> str:
    """One self-contained page, which opens offline; with a table of the tokens' scores, one picks a span in it."""
    if layout.table is None:
        policy = _policy("script-src 'none'")
        return page(
            layout.title, response_fragment(layout, style=False), head=f"{policy}<style>{RESPONSE_STYLE}</style>"
        )
    policy = _policy(f"script-src {SCRIPT_SOURCE}")
    return page(layout.title, response_live(layout), head=f"{policy}<style>{RESPONSE_STYLE}{PAGE_STYLE}</style>")


def response_live(layout: ResponseLayout) -> str:
    """The response as elements of a page in which one picks a span; a page has room for one of them.

    The page needs both style sheets, and `SCRIPT_SOURCE` in its content security policy.

    Args:
        layout: with a table.
    """
    assert layout.table is not None
    tools = (
        '<p class="tools"><span>Click a word of the response, or drag over several. '
        '<span class="pointer">Point at the prompt to see which words it speaks for.</span></span>'
        '<button type="button" class="all">whole response</button>'
        '<button type="button" class="given">as explained</button></p>'
    )
    return (
        f'<div class="amortex response live">{_answer(layout, _tokens(layout), tools)}\n'
        f"{_messages(layout, layout.columns(fold=False), 'p')}\n{_key(layout)}</div>\n"
        f'<script type="application/json" id="amortex">{_data(layout, layout.table)}</script>\n'
        f"<script>{SCRIPT}</script>"
    )


def script_source(script: str) -> str:
    """The name of a script in a content security policy: its hash."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


SCRIPT_SOURCE = script_source(SCRIPT)
"""The name of the script by which one picks."""


def _policy(scripts: str) -> str:
    content = f"default-src 'none'; style-src 'unsafe-inline'; {scripts}"
    return f'<meta http-equiv="Content-Security-Policy" content="{content}">'


def _answer(layout: ResponseLayout, said: str, tools: str = "") -> str:
    facts = "".join(f" · {escaped(fact)}" for fact in layout.facts)
    whole = " whole" if layout.span == (0, len(layout.offsets)) else ""
    headline = f'<b class="headline">{escaped(layout.headline)}</b><span class="more-facts">{facts}</span>'
    return (
        f'<section class="answer"><p class="facts">{headline}</p><p class="said{whole}" dir="auto">{said}</p>{tools}'
        f'<ol class="top" aria-label="the strongest sources">{_strongest(layout)}</ol></section>'
    )


def _said(layout: ResponseLayout) -> str:
    """The response with its explained part marked."""
    start, end = layout.characters
    before, part, after = (
        escaped(one) for one in (layout.response[:start], layout.response[start:end], layout.response[end:])
    )
    return f'{before}<span class="in">{part}</span>{after}'


def _tokens(layout: ResponseLayout) -> str:
    """The response as stretches to pick; tokens that share a character are one, white space is between them."""
    parts, reached = [], 0
    first, last = layout.span
    for k, (a, b, start, end) in enumerate(token_groups(layout)):
        parts.append(escaped(layout.response[reached:start]))
        picked = " in" if first < b and a < last else ""
        parts.append(f'<span class="t{picked}" data-k="{k}">{escaped(layout.response[start:end])}</span>')
        reached = end
    return "".join([*parts, escaped(layout.response[reached:])])


def token_groups(layout: ResponseLayout) -> list[tuple[int, int, int, int]]:
    """(first token, last + 1, start, end) of each stretch of the response that can be picked."""
    groups: list[tuple[int, int, int, int]] = []
    for k, (start, end) in enumerate(layout.offsets):
        if groups and start < groups[-1][3]:
            a, _, low, high = groups[-1]
            groups[-1] = (a, k + 1, low, max(high, end))
            continue
        text = layout.response[start:end]
        if not text.strip():
            if groups:  # white space belongs to the token before it
                groups[-1] = (groups[-1][0], k + 1, *groups[-1][2:])
            continue
        left, right = len(text) - len(text.lstrip()), len(text) - len(text.rstrip())
        groups.append((k, k + 1, start + left, end - right))
    if groups:
        groups[0] = (0, *groups[0][1:])
    return groups


def _strongest(layout: ResponseLayout) -> str:
    rows = []
    for i in layout.strongest:
        share = layout.sources[i].score / layout.largest
        before, text, after = (_SPACE.sub(" ", part) for part in layout.in_context(i))
        rows.append(
            f'<li data-s="{i}"><span class="bar" style="width:{100 * share:.1f}%;background:rgb{FOR}"></span>'
            f'<span class="number">{layout.sources[i].score:+.3g}</span>'
            f'<span class="what" dir="auto">{escaped(before)}<b>{escaped(text)}</b>{escaped(after)}</span></li>'
        )
    return "".join(rows) or f'<li class="none">No {escaped(layout.level)} of the prompt speaks for it.</li>'


def _prompt(layout: ResponseLayout) -> str:
    whole, shown = layout.columns(fold=False), layout.columns()
    return folding(whole, shown, partial(_messages, layout))


def _messages(layout: ResponseLayout, texts: Sequence[Sequence[Column]], tag: str) -> str:
    """The messages, each below its role; inside a `summary` only elements of running text may stand."""
    box = "section" if tag == "p" else "span"
    return "".join(
        f'<{box} class="message"><span class="role">{escaped(message.role)}</span>'
        f'<{tag} class="heat" dir="auto">{_running(layout, number, text)}</{tag}></{box}>'
        for number, (message, text) in enumerate(zip(layout.messages, texts, strict=True))
    )


def _running(layout: ResponseLayout, message: int, text: Sequence[Column]) -> str:
    """The text of a message; a source is one element, and so is what lies between sources."""
    parts: list[tuple[int | None, str]] = []
    for before, column in pairwise([Column(()), *text]):
        if column.omitted:
            parts.append((-1, ellipsis(column)))
            continue
        for piece in column.rows[0]:
            # The blank behind an ellipsis has no place in the text.
            source = None if before.omitted else layout.source_at(message, piece.start)
            parts.append((source, escaped(piece.text)))
    grouped = ((source, "".join(part for _, part in group)) for source, group in groupby(parts, lambda part: part[0]))
    return "".join(
        part if source == -1 else f"<span>{part}</span>" if source is None else _source(layout, source, part)
        for source, part in grouped
    )


def _source(layout: ResponseLayout, source: int, text: str) -> str:
    kind, background = painted(layout.strength(source))
    title = f"{layout.sources[source].score:+.3g}"
    return f'<span class="w {kind}" data-s="{source}" style="{background}" title="{title}">{text}</span>'


def _key(layout: ResponseLayout) -> str:
    scale = escape(layout.scale)
    return f'<p class="key">against <span class="scale"></span> for · <span class="meaning">{scale}</span></p>'


def _data(layout: ResponseLayout, table: TokenTable) -> str:
    """What the script reads, as JSON in which nothing can end the element; the scores as 16-bit integers per token."""
    scales = np.abs(table.scores).max(axis=1, initial=0.0) / 32767
    cells = np.divide(table.scores, scales[:, None], out=np.zeros_like(table.scores), where=scales[:, None] > 0)
    data: dict[str, Any] = {
        "groups": [[a, b] for a, b, _, _ in token_groups(layout)],
        "logp": [round(float(value), 4) for value in table.log_probabilities],
        "scales": [float(f"{scale:.6g}") for scale in scales],
        "cells": base64.b64encode(cells.round().astype("<i2").tobytes()).decode(),
        "n": len(layout.sources),
        "span": list(layout.span),
        "scores": [float(f"{source.score:.6g}") for source in layout.sources],
        "headline": layout.headline,
        "facts": "".join(f" · {fact}" for fact in layout.facts),
        "by": "".join(f" · {fact}" for fact in layout.facts[:1]),
        "level": layout.level,
        "words": layout.max_words,
        "top": TOP,
        "context": CONTEXT,
        "for": list(FOR),
        "against": list(AGAINST),
        "strong": STRONG,
        "full": FULL,
    }
    text = json.dumps(data, ensure_ascii=True, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
