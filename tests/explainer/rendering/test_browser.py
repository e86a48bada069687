"""Texts, labels and names with markup in them, in a real browser: they are shown, and nothing of them runs."""

import re
import shutil
import subprocess
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from explainer.evaluation.pareto import Point, pareto, svg
from explainer.evaluation.report import report
from explainer.rendering.html import page
from tests.explainer.rendering.odd import plain

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
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
    }


@pytest.mark.parametrize("name", ["explanation", "report"])
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
