"""The view of a response: notebook, terminal and page show the same, and a page's reader picks a part of it."""

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from explainer.rendering import Message, ResponseView, Stretch, TokenTable
from explainer.rendering.response_html import response_fragment, response_page, token_groups
from tests.explainer.rendering.test_html import Balanced

SYSTEM, USER = "Be brief.", "Anna lives in Oslo. Ben has a red car.\n\nWhat has Ben?"
SENTENCES = [(0, 0, 9, -0.5), (1, 0, 19, 0.1), (1, 20, 38, 2.0), (1, 40, 53, 1.0)]


def view(**changes: Any) -> ResponseView:
    values: dict[str, Any] = {
        "messages": (Message("system", SYSTEM), Message("user", USER)),
        "sources": tuple(Stretch(*one) for one in SENTENCES),
        "response": " A red car 🚗!\n",
        "offsets": ((0, 2), (2, 6), (6, 10), (10, 12), (11, 12), (12, 13), (13, 14)),
        "span": (1, 3),
        "headline": "log-probability −1.2 nats, 2 of 7 tokens",
        "facts": ("by attn_lrp", "rather than 'no'"),
        "level": "sentence",
    }
    return ResponseView(**(values | changes))


def table(n_sources: int = 4) -> TokenTable:
    return TokenTable(np.arange(7.0 * n_sources).reshape(7, n_sources) - 5, -np.ones(7))


def long(**changes: Any) -> ResponseView:
    words = [f"word{i}" for i in range(400)]
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])]).tolist()
    scores = [3.0 if i == 250 else 0.001 for i in range(400)]
    stretches = tuple(Stretch(1, a, a + len(w), s) for a, w, s in zip(starts, words, scores, strict=True))
    messages = (Message("system", SYSTEM), Message("user", " ".join(words)))
    return view(messages=messages, sources=stretches, level="word", max_words=60, **changes)


def printed(shown: ResponseView, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False, color_system=None)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined]


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html))


# Everywhere


def test_the_sources_have_their_colours_and_the_rest_has_none() -> None:
    html = response_fragment(view(), style=False)
    found = re.findall(
        r'<span class="w (\w+)[^"]*" data-s="(\d)" style="[^"]*,([\d.]+)\)" title="([^"]*)">([^<]*)<', html
    )
    assert [(kind, int(s), float(depth), title, text) for kind, s, depth, title, text in found] == [
        ("against", 0, 0.25, "-0.5", "Be brief."),
        ("for", 1, 0.05, "+0.1", "Anna lives in Oslo."),
        ("for", 2, 1.0, "+2", "Ben has a red car."),
        ("for", 3, 0.5, "+1", "What has Ben?"),
    ]
    assert "full colour: |score| 2, the largest sentence" in html


@pytest.mark.parametrize("shown", [view(), long()])
def test_a_fragment_is_balanced_and_holds_every_word(shown: ResponseView) -> None:
    html = response_fragment(shown)
    balanced = Balanced()
    balanced.feed(html)
    assert balanced.open == []
    whole = text_of(html.split("</summary>")[-1])
    for message in shown.messages:
        assert message.content in whole
        assert f'<span class="role">{message.role}</span>' in html
    assert shown.response in text_of(html)


def test_the_explained_part_is_marked_in_the_response() -> None:
    assert '<span class="in">red car</span>' in response_fragment(view())
    assert view(span=(0, 7)).characters == (1, 13)


def test_the_strongest_sources_are_listed_with_the_words_around_short_ones() -> None:
    listed = re.findall(
        r'<li data-s="(\d)">.*?<span class="what" dir="auto">(.*?)</span></li>', response_fragment(view())
    )
    assert listed == [
        ("2", "Anna lives in Oslo. <b>Ben has a red car.</b>"),
        ("3", "<b>What has Ben?</b>"),
        ("1", "<b>Anna lives in Oslo.</b> Ben has a red car."),
    ]
    before, own, after = long().in_context(250)
    assert (before, own, after) == ("… word248 word249 ", "word250", " word251 word252 word253…")
    silent = view(sources=(Stretch(0, 0, 9, -1.0),))
    assert "No sentence of the prompt speaks for it." in response_fragment(silent)


def test_a_long_prompt_folds_to_its_strongest_words() -> None:
    closed, _ = response_fragment(long(), style=False).split("</summary>")
    assert "word250" in closed
    assert "word100" not in closed
    assert "show all 402 words" in closed
    assert "<details" not in response_fragment(replace(long(), max_words=None))
    sentences = " ".join(f"This is the sentence {i}." for i in range(60))
    starts = [match.start() for match in re.finditer("This", sentences)]
    stretches = tuple(Stretch(0, a, sentences.index(".", a) + 1, float(a == starts[40])) for a in starts)
    whole = view(messages=(Message("user", sentences),), sources=stretches, max_words=30)
    closed, _ = response_fragment(whole, style=False).split("</summary>")
    assert "This is the sentence 40." in closed
    for part in re.findall(r'class="w[^"]*" data-s="\d+"[^>]*>([^<]*)<', closed):  # whole sentences
        assert part.startswith("This is the sentence ")
        assert part.endswith(".")


def test_the_terminal_has_roles_signs_and_no_line_that_is_too_wide() -> None:
    lines = printed(view()).splitlines()
    assert lines[0] == "log-probability −1.2 nats, 2 of 7 tokens · by attn_lrp · rather than 'no'"
    assert "system" in lines
    assert "−Be brief." in lines
    assert "Anna lives in Oslo. +++Ben has a red car." in lines
    assert "++What has Ben?" in lines
    assert all(len(line) <= 30 for line in printed(long(), width=30).splitlines())
    assert "… " in printed(long())


@pytest.mark.parametrize("response", ["\x1b[31mred", "a\x07b\u202ec"])
def test_nothing_of_a_stranger_moves_the_cursor(response: str) -> None:
    shown = view(response=response, offsets=((0, len(response)),), span=(0, 1), messages=(Message(response, response),))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", printed(replace(shown, sources=())))


# The page


def data_of(html: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="amortex">(.*?)</script>', html)
    return json.loads(found)


def test_the_page_holds_the_table_to_a_32767th_of_each_row() -> None:
    shown = view(table=table())
    data = data_of(response_page(shown))
    cells = np.frombuffer(base64.b64decode(data["cells"]), dtype="<i2").reshape(7, 4)
    assert shown.table is not None
    rows = cells * np.array(data["scales"])[:, None]
    bound = np.abs(shown.table.scores).max(axis=1, keepdims=True) / 32767
    assert (np.abs(rows - shown.table.scores) <= bound).all()
    assert data["logp"] == [-1.0] * 7
    assert data["groups"] == [[0, 1], [1, 2], [2, 3], [3, 5], [5, 7]]


def test_tokens_that_share_a_character_are_picked_together_and_white_space_with_the_token_before() -> None:
    shown = view()
    picked = [(first, last, shown.response[start:end]) for first, last, start, end in token_groups(shown)]
    assert picked == [(0, 1, "A"), (1, 2, "red"), (2, 3, "car"), (3, 5, "🚗"), (5, 7, "!")]
    assert token_groups(view(response="  ", offsets=((0, 1), (1, 2)), span=(0, 2))) == []


def test_the_policy_of_a_page_allows_its_own_script_alone() -> None:
    html = response_page(view(table=table()))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert "<script" not in response_page(view())
    assert "script-src 'none'" in response_page(view())
    assert "http" not in html.replace("http-equiv", "")


def test_a_page_is_written(tmp_path: Path) -> None:
    view(table=table()).to_html(tmp_path / "page.html")
    assert "<!doctype html>" in (tmp_path / "page.html").read_text()
    assert "Why: A red car" in (tmp_path / "page.html").read_text()
