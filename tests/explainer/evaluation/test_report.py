"""The report's page: its parts, folded long texts, and no markup from what it shows."""

import re

from explainer.evaluation.pareto import Point, pareto, svg
from explainer.evaluation.report import LONG, report
from tests.explainer.explanation.test_text import example
from tests.explainer.rendering.test_html import Balanced

NASTY = "<b onclick='x'>sig</b> & co"


def built(long: bool = False) -> str:
    text = "Goodly film" + " and so on" * (LONG // 10 if long else 0)
    explanations = {NASTY: example(text=text), "random": example(text=text, target_label="<i>good</i>")}
    picture = svg(pareto([Point(NASTY, 1.0, 0.5, 0.4, 0.6), Point("random", 2.0, 0.1, 0.0, 0.2)]))
    head, cells = ["method", "faith\nful ↑"], [[NASTY, "0.5\n[0.4, 0.6]"], ["random", "<script>"]]
    run = {"command": "explainer <compare>", "summary": "left out"}
    return report(f"title {NASTY}", head, cells, "a caption <&>", picture, [explanations], run)


def test_every_part_is_there_and_nothing_is_markup() -> None:
    html = built()
    page = Balanced.read(html)
    assert not page.seen & {"script", "i", "link", "img"}
    assert page.seen >= {"table", "svg", "details", "summary", "pre"}
    assert page.text.count(NASTY) >= 3
    for part in ("a caption <&>", "explainer <compare>", "<script>", "[0.4, 0.6]", "title ", "good 75.0%", "Goodly"):
        assert part in page.text
    assert "http" not in html
    assert "left out" not in html


def test_a_regression_s_texts_are_headed_by_the_value() -> None:
    value = example(
        probabilities=None, probability=None, value=3.25, target=0, target_label="stars", predicted_label=None
    )
    picture = svg(pareto([Point("sig", 1.0, 0.5, 0.4, 0.6)]))
    html = report("title", ["method"], [["sig"]], "caption", picture, [{"sig": value}], {})
    assert "stars = 3.25" in Balanced.read(html).text


def test_the_picture_takes_the_page_s_ink() -> None:
    html = built()
    assert "currentColor" in html
    assert "#010203" not in html


def test_a_long_text_is_folded_until_it_is_asked_for() -> None:
    assert re.search(r"<details open><summary>1", built())
    assert re.search(r"<details><summary>1", built(long=True))


def test_every_method_shows_every_word() -> None:
    assert [text for _, text in Balanced.read(built()).spans].count("Goodly") == 2
