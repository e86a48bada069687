"""The page of the demo: the form, what came of it, and the little script that says that the model is at work."""

from collections.abc import Sequence
from typing import Any

from explainer.demo.base import AbstractDemo
from explainer.demo.elements import button
from explainer.demo.fields import Fields
from explainer.demo.style import DEMO_STYLE
from explainer.rendering.html import escaped, page
from explainer.rendering.response_html import PAGE_STYLE, RESPONSE_STYLE, SCRIPT_SOURCE, script_source

# The page works without it. A button is disabled after the form was read, which would leave its value out otherwise.
WORKING = """
"use strict";
(() => {
  const form = document.getElementById("ask"), status = document.getElementById("status");
  const work = (busy) => {
    status.textContent = busy ? "The model is at work \\u2026" : "";
    for (const one of document.querySelectorAll("button[type=submit]")) one.disabled = busy;
  };
  form.addEventListener("submit", () => setTimeout(() => work(true)));
  addEventListener("pageshow", () => work(false));
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
})();
"""

POLICY = "; ".join(
    [
        "default-src 'none'",
        "style-src 'unsafe-inline'",
        f"script-src {SCRIPT_SOURCE} {script_source(WORKING)}",
        "img-src data:",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""The content security policy: nothing is loaded, and no other script runs."""

_HEAD = f'<link rel="icon" href="data:,"><style>{RESPONSE_STYLE}{PAGE_STYLE}{DEMO_STYLE}</style>'


def demo_page(
    demo: AbstractDemo[Any], fields: Fields, result: str = "", error: str = "", notices: Sequence[str] = ()
) -> str:
    """The whole page.

    Args:
        fields: what the form is filled with.
        result: the answer as HTML.
        error: what is wrong with the form.
        notices: what has to be known to read the answer.
    """
    told = "".join(f'<p class="notice">{escaped(notice)}</p>' for notice in notices)
    wrong = f'<p class="error" role="alert">{escaped(error)}</p>' if error else ""
    answer = f"{wrong}{told}{result or _nothing(error)}"
    return page(
        f"{demo.model} · {demo.attributor.method.label}",
        f"{_header(demo)}<main>{_form(demo, fields)}"
        f'<section id="answer" aria-label="answer">{answer}</section></main><script>{WORKING}</script>',
        head=_HEAD,
    )


def _header(demo: AbstractDemo[Any]) -> str:
    model, method = escaped(demo.model), escaped(demo.attributor.method.label)
    by = f"The model is <b>{model}</b>, explained by <b>{method}</b>."
    return f'<header><h1>{escaped(demo.question)}</h1><p class="soft">{by}</p></header>'


def _form(demo: AbstractDemo[Any], fields: Fields) -> str:
    actions = f'{button("Explain")}{demo.buttons}<span id="status" role="status"></span>'
    return (
        f'<form id="ask" method="post" action="#answer" accept-charset="utf-8">{demo.form(fields)}'
        f'<p class="actions">{actions}</p></form>'
    )


def _nothing(error: str) -> str:
    return "" if error else '<p class="soft empty">The answer will be here.</p>'


def refusal_page(reason: str) -> str:
    """A page that says why there is nothing else."""
    return page("Refused", f'<main><p class="error" role="alert">{escaped(reason)}</p></main>', head=_HEAD)
