"""HTML of a view: the whole text, escaped, every word on its colour; ink that can be read on any of them."""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explainer.rendering import View, side_by_side, view
from explainer.rendering.colour import AGAINST, FOR, contrast
from explainer.rendering.html import FULL, STRONG, fragment, inline, page
from tests.explainer.explanation.test_text import example
from tests.explainer.rendering.odd import TEXTS, long, odd, plain

VOID = {"meta", "br", "link", "img", "path", "use", "rect", "stop"}


class Balanced(HTMLParser):
    """Reads a page and fails at a tag that is not closed in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.classes: list[str] = []
        self.seen: set[str] = set()
        self.spans: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self.heat: list[str] = []
        self.folded = ""

    @classmethod
    def read(cls, html: str) -> "Balanced":
        parser = cls()
        parser.feed(html)
        parser.close()
        assert parser.open == []
        return parser

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        name = dict(attrs).get("class") or ""
        if name in ("heat", "row") and "folded" not in self.classes:
            self.heat.append("")
        if tag not in VOID:
            self.open.append(tag)
            self.classes.append(name)
        if tag == "span" and name.startswith("w "):
            self.spans.append((dict(attrs), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag
            self.classes.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            return
        self.text += data
        if "folded" in self.classes:
            self.folded += data
        elif "label" not in self.classes and {"heat", "row"} & set(self.classes):
            self.heat[-1] += data
        if any(name.startswith("w ") for name in self.classes):
            self.spans[-1] = (self.spans[-1][0], self.spans[-1][1] + data)


def test_both_texts_are_whole() -> None:
    assert Balanced.read(fragment(view(example()))).heat == ["Goodly film", "Fun"]


@given(odd(), st.sampled_from(["word", "token"]))
def test_what_is_copied_from_the_page_is_the_text(changes: dict[str, Any], level: str) -> None:
    explanation = example(**changes)
    parser = Balanced.read(fragment(view(explanation, level=level, max_words=None)))
    assert parser.heat == [text for text in (explanation.text, explanation.text_pair) if text is not None]


@given(st.data())
def test_every_row_side_by_side_has_every_letter(data: st.DataObject) -> None:
    text = data.draw(TEXTS)
    changes = data.draw(st.lists(odd(text, pair=False), min_size=2, max_size=3))
    explanations = {str(i): example(**one) for i, one in enumerate(changes)}
    rows = Balanced.read(fragment(View(explanations, level="token", max_words=None))).heat
    for i in range(len(explanations)):
        assert "".join("".join(rows[i :: len(explanations)]).split()) == "".join(text.split())


def test_words_lie_on_their_colour_with_their_score() -> None:
    spans = {text: attributes for attributes, text in Balanced.read(fragment(view(example()))).spans}
    assert set(spans) == {"Goodly", "film", "Fun"}
    assert spans["Goodly"]["style"] == "background:rgba({},{},{},1.000)".format(*AGAINST)
    assert spans["film"]["style"] == "background:rgba({},{},{},0.250)".format(*FOR)
    assert spans["Goodly"]["title"] == "-2"
    assert spans["Fun"]["class"] == "w for strong full"


def test_zero_has_no_colour() -> None:
    (attributes, _), *_ = Balanced.read(fragment(view(example(scores=[0.0] * 7)))).spans
    assert attributes["class"] == "w zero"
    assert attributes["title"] == "0"
    assert str(attributes["style"]).endswith(",0.000)")


def test_tokens_have_their_marks_beside_the_text() -> None:
    html = fragment(view(example(), level="token"))
    marked = {text: attributes.get("data-mark") for attributes, text in Balanced.read(html).spans}
    assert marked == {"Good": None, "ly": "##", "film": None, "Fun": None}
    assert 'title="##ly -3"' in html


def test_text_is_text_and_never_markup() -> None:
    text = '<script>x</script> & "a"'
    html = fragment(
        view(
            example(
                text=text,
                text_pair=None,
                offsets=[(0, 0), (0, 3), (3, 8), (9, 10)] + [(0, 0)] * 3,
                segments=[0] * 7,
                target_label="<i>",
                method="<i>",
                tokens=['"<i>'] * 7,
            ),
            level="token",
        )
    )
    parser = Balanced.read(html)
    assert parser.heat == [text]
    assert not parser.seen & {"script", "i"}
    assert "<title>a &lt; b</title>" in page("a < b", "")


def test_a_page_asks_for_nothing_from_elsewhere() -> None:
    html = page("report", fragment(side_by_side([long(), long()])))
    parser = Balanced.read(html)
    assert "http" not in html
    assert not re.search(r"url\(|@import|src=|href=", html)
    assert not parser.seen & {"script", "link", "img", "iframe"}


def test_a_long_text_is_folded_to_its_strongest_words_and_is_whole_inside() -> None:
    explanation = long()
    parser = Balanced.read(fragment(view(explanation)))
    assert parser.seen >= {"details", "summary"}
    assert parser.heat == [explanation.text]
    hidden = sum(int(n) for n in re.findall(r"… (\d+) words? …", parser.folded))
    assert "w150" in parser.folded
    assert hidden + len(re.findall(r"\bw\d+", parser.folded)) == 250
    assert 'data-closed="show all 250 words"' in fragment(view(explanation))


def test_a_short_text_and_one_without_limit_are_not_folded() -> None:
    for shown in (view(long(100)), view(long(), max_words=None), side_by_side([long(100)] * 2)):
        assert "details" not in Balanced.read(fragment(shown)).seen


def test_side_by_side_has_a_row_a_map_and_the_target_once() -> None:
    parser = Balanced.read(fragment(side_by_side([example(), example(method="lrp")])))
    assert parser.heat == ["Goodly film", "Goodly film", "Fun", "Fun"]
    assert parser.text.count("good 75.0%") == 1


def test_a_text_from_the_right_is_laid_out_from_the_right() -> None:
    words = plain(["שלום", "עולם"], [1.0, -1.0])
    assert 'dir="rtl"' in fragment(side_by_side([words, words]))
    assert 'dir="ltr"' in fragment(side_by_side([example(), example()]))


def test_a_figure_loses_its_addresses_and_keeps_its_drawing() -> None:
    svg = '<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "x" "http://y">\n<svg xmlns="http://z" xmlns:a="http://b" '
    svg += 'width="1"><metadata><a href="http://c"/></metadata><path d="M 0 0"/></svg>'
    assert inline(svg) == '<svg width="1"><path d="M 0 0"/></svg>'


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("end", [AGAINST, FOR], ids=["against", "for"])
def test_ink_can_be_read_on_every_colour(dark: bool, end: tuple[int, int, int]) -> None:
    """A contrast of at least 4.5 (WCAG 2, AA) at every strength, with the inks of the style sheet."""
    paper, ink = (17, 255) if dark else (255, 0)
    for strength in (i / 1000 for i in range(1001)):
        if end == FOR and strength > STRONG:
            shown = 0
        elif end == AGAINST and strength > FULL:
            shown = 255
        else:
            shown = ink
        mixed = tuple(round(paper + strength * (part - paper)) for part in end)
        assert contrast((shown,) * 3, mixed) >= 4.5, strength  # type: ignore[arg-type]


def test_what_is_said_beside_the_text_can_be_read_too() -> None:
    for soft, paper in (((0x55,) * 3, (255,) * 3), ((0xAA,) * 3, (0x11,) * 3)):
        assert contrast(soft, paper) >= 4.5  # type: ignore[arg-type]
