"""Texts, labels and names with markup in them, in a real browser: they are shown, and nothing of them runs."""

import re
import subprocess
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from explainer.evaluation.pareto import Point, pareto, svg
from explainer.evaluation.report import report
from explainer.rendering import Message, ResponseView, Stretch, TokenTable
from explainer.rendering.html import page
from explainer.rendering.response_html import response_page
from explainer.rendering.response_script import SCRIPT
from tests.browser import BROWSER
from tests.explainer.rendering.odd import plain

RAN = "document.documentElement.dataset.ran=1"
HOSTILE = [
    f"<script>{RAN}</script>",
    f"</style></title></script><script>{RAN}</script>",
    f'"><img src=x onerror="{RAN}">',
    f"'><svg onload='{RAN}'></svg>",
    f"<iframe srcdoc='<script>parent.{RAN}</script>'></iframe>",
    f"<a href='javascript:{RAN}' autofocus onfocus='{RAN}'>x</a>",
    f"<details open ontoggle={RAN}>x</details>",
    f"]]><!--><script>{RAN}</script>",
    f"\u2028</span\n><script\t>{RAN}</script\t>",
    f"&lt;script&gt;{RAN}&lt;/script&gt;",
]


class Live(HTMLParser):
    """The parts of a page that do something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        handlers = [name for name, _ in attrs if name.startswith("on")]
        handlers += [name for name, value in attrs if name.endswith(("href", "src")) and ":" in (value or "")]
        if handlers or tag in ("script", "iframe", "img", "object", "embed", "form", "link"):
            self.found.append(f"{tag} {handlers}")


def rendered(html: str, path: Path) -> str:
    """The page's elements after the browser has loaded it and run whatever runs."""
    path.write_text(html, encoding="utf-8")
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=2000"]
    profile = f"--user-data-dir={path.parent / 'profile'}"
    done = subprocess.run(
        [BROWSER, *options, profile, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "</html>" in done.stdout, done.stderr[-2000:]
    return done.stdout


def has_run(dom: str) -> bool:
    return re.search(r"<html[^>]*data-ran", dom) is not None


@cache
def pages() -> dict[str, str]:
    """A page of an explanation and a report, hostile wherever a user's words come in."""
    everything = " ".join(HOSTILE)
    hostile = [
        plain(
            HOSTILE, [float(i % 3 - 1) for i in range(len(HOSTILE))], target_label=one, predicted_label=one, method=one
        )
        for one in (everything, HOSTILE[2])
    ]
    picture = svg(pareto([Point(one, 1.0, 0.5, 0.4, 0.6) for one in HOSTILE[:2]]))  # the font has no tab
    cells = [[one, "0.5\n[0.4, 0.6]"] for one in HOSTILE]
    run = {"command": everything, "texts": HOSTILE[1], "labels": HOSTILE[3]}
    shown = [dict.fromkeys(HOSTILE[:3], hostile[0])]
    return {
        "explanation": page(everything, "".join(one.view(level="token")._repr_html_() for one in hostile)),
        "report": report(everything, ["method", everything], cells, everything, picture, shown, run),
        "response": response_page(hostile_response(picks=False)),
    }


def hostile_response(picks: bool) -> ResponseView:
    """A response, roles and messages that are hostile, and a prompt that is long enough to fold."""
    everything = " ".join(HOSTILE)
    messages = tuple(Message(one, f"{one} {'word ' * 300}") for one in HOSTILE)
    n = len(messages)
    offsets = tuple((match.start(), match.end()) for match in re.finditer(r"\S+\s*", everything))
    return ResponseView(
        messages=messages,
        sources=tuple(Stretch(i, 0, len(one), float(i % 3 - 1)) for i, one in enumerate(HOSTILE)),
        response=everything,
        offsets=offsets,
        span=(0, len(offsets)),
        headline=HOSTILE[0],
        facts=(HOSTILE[1], HOSTILE[2]),
        level=HOSTILE[3],
        table=TokenTable(np.eye(len(offsets), n), -np.ones(len(offsets))) if picks else None,
    )


@pytest.mark.parametrize("name", ["explanation", "report", "response"])
def test_nothing_in_a_page_is_live(name: str) -> None:
    live = Live()
    live.feed(pages()[name])
    assert live.found == []


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_browser_shows_hostile_words_and_runs_none_of_them(tmp_path: Path) -> None:
    assert has_run(rendered(f"<!doctype html><body><script>{RAN}</script></body>", tmp_path / "control.html"))
    for name, html in pages().items():
        dom = rendered(html, tmp_path / f"{name}.html")
        live = Live()
        live.feed(dom)
        assert not has_run(dom)
        assert live.found == []
        assert "&lt;script&gt;document" in dom


def test_the_only_scripts_of_a_page_with_a_table_are_its_own() -> None:
    html = response_page(hostile_response(picks=True))
    live = Live()
    live.feed(html)
    assert live.found == ["script []", "script []"]
    assert html.count("<script") == 2
    assert f"<script>{SCRIPT}</script>" in html


DRAG = """
const t = [...document.querySelectorAll(".t")], box = (i) => t[i].getBoundingClientRect();
const send = (name, i, to, more) => to.dispatchEvent(new PointerEvent(name, {
  bubbles: true, pointerType: "mouse", clientX: box(i).x + 2, clientY: box(i).y + box(i).height / 2, ...more }));
send("pointerdown", FROM, t[FROM]); send("pointermove", TO, document); send("pointerup", TO, document);
"""


def after_drag(shown: ResponseView, first: int, last: int, path: Path) -> str:
    """The page's elements after a drag over the response; without the policy, which would refuse this very script."""
    html = re.sub(r"<meta http-equiv[^>]*>", "", response_page(shown))
    drag = DRAG.replace("FROM", str(first)).replace("TO", str(last))
    return rendered(html.replace("</body>", f"<script>{drag}</script></body>"), path)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_drag_over_the_response_shows_the_sum_of_its_tokens(tmp_path: Path) -> None:
    contents = ["one two. " + "filler " * 300, "three four."]
    scores = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, -4.0], [0.5, 2.0, 0.0]])
    shown = ResponseView(
        messages=(Message("system", contents[0]), Message("user", contents[1])),
        sources=(Stretch(0, 0, 8, 9.0), Stretch(1, 0, 5, 0.0), Stretch(1, 6, 10, 0.0)),
        response="so it is",
        offsets=((0, 2), (2, 5), (5, 8)),
        span=(0, 1),
        headline="as given",
        facts=("by method",),
        level="word",
        table=TokenTable(scores, np.array([-0.5, -1.0, -0.25])),
    )
    before = rendered(response_page(shown), tmp_path / "before.html")
    assert "as given" in before
    assert re.search(r'<span class="w for strong full" data-s="0"[^>]*title="\+9"', before)
    assert re.search(r'class="gap">… 300 words …</button>', before)
    dom = after_drag(shown, 1, 2, tmp_path / "after.html")
    assert "log-probability −1.25 nats, 2 of 3 tokens" in dom
    titles = {
        int(s): unescape(title) for s, title in re.findall(r'class="w[^"]*" data-s="(\d)"[^>]*title="([^"]*)"', dom)
    }
    assert titles == {0: "+0.5", 1: "+4", 2: "−4"}
    assert re.findall(r'<span class="t in" data-k="(\d)"', dom) == ["1", "2"]
    assert "full colour: |score| 4, the largest word" in dom
    assert re.findall(r'<li data-s="(\d)">', dom) == ["1", "0"]


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_picking_in_a_hostile_page_runs_nothing(tmp_path: Path) -> None:
    dom = after_drag(hostile_response(picks=True), 0, 2, tmp_path / "picked.html")
    assert not has_run(dom)
    assert "&lt;script&gt;document" in dom
    assert "log-probability −3 nats, 3 of " in dom
