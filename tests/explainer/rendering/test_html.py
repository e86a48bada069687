"""HTML of an explanation: the whole text, escaped, every word on its colour; ink that can be read on any of them."""

from html.parser import HTMLParser

import pytest

from explainer.rendering.colour import AGAINST, FOR
from explainer.rendering.html import FULL, STRONG, inline, page, render
from tests.explainer.test_explanation import example

VOID = {"meta", "br", "link", "img", "path", "use", "rect", "stop"}


class Balanced(HTMLParser):
    """Reads a page and fails at a tag that is not closed in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.spans: list[tuple[dict[str, str | None], str]] = []
        self.text = ""

    @classmethod
    def read(cls, html: str) -> "Balanced":
        parser = cls()
        parser.feed(html)
        parser.close()
        assert parser.open == []
        return parser

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "span":
            self.spans.append((dict(attrs), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "span":
            self.spans[-1] = (self.spans[-1][0], self.spans[-1][1] + data)


def test_both_texts_are_whole() -> None:
    assert Balanced.read(render(example())).text == "Goodly film\nFun"


def test_words_lie_on_their_colour_with_their_score() -> None:
    spans = {text: attributes for attributes, text in Balanced.read(render(example())).spans}
    assert set(spans) == {"Goodly", "film", "Fun"}
    assert spans["Goodly"]["style"] == "background:rgba({},{},{},1.000)".format(*AGAINST)
    assert spans["film"]["style"] == "background:rgba({},{},{},0.250)".format(*FOR)
    assert spans["Goodly"]["title"] == "-2"
    assert spans["Fun"]["class"] == "w for strong full"


def test_zero_has_no_colour() -> None:
    (attributes, _), *_ = Balanced.read(render(example(scores=[0.0] * 7))).spans
    assert attributes["class"] == "w zero"
    assert str(attributes["style"]).endswith(",0.000)")


def test_text_is_text_and_never_markup() -> None:
    text = '<script>x</script> & "a"'
    html = render(example(text=text, text_pair=None, offsets=[(0, 0), (0, 3), (3, 8), (9, 10)] + [(0, 0)] * 3))
    parser = Balanced.read(html)
    assert parser.text.startswith(text[:20])
    assert "script" not in parser.seen
    assert "<title>a &lt; b</title>" in page("a < b", "")


def test_a_page_asks_for_nothing_from_elsewhere() -> None:
    html = page("report", render(example()))
    parser = Balanced.read(html)
    assert "http" not in html
    assert not parser.seen & {"script", "link", "img", "iframe"}


def test_a_figure_loses_its_addresses_and_keeps_its_drawing() -> None:
    svg = '<?xml version="1.0"?>\n<!DOCTYPE svg PUBLIC "x" "http://y">\n<svg xmlns="http://z" xmlns:a="http://b" '
    svg += 'width="1"><metadata><a href="http://c"/></metadata><path d="M 0 0"/></svg>'
    assert inline(svg) == '<svg width="1"><path d="M 0 0"/></svg>'


def luminance(colour: tuple[float, float, float]) -> float:
    """WCAG 2, relative luminance of an sRGB colour."""
    linear = [p / 255 / 12.92 if p / 255 <= 0.04045 else ((p / 255 + 0.055) / 1.055) ** 2.4 for p in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("end", [AGAINST, FOR], ids=["against", "for"])
def test_ink_can_be_read_on_every_colour(dark: bool, end: tuple[int, int, int]) -> None:
    """A contrast of at least 4.5 (WCAG 2, AA) at every strength, with the inks of the style sheet."""
    paper, ink = (17, 255) if dark else (255, 0)
    for strength in (i / 100 for i in range(101)):
        if dark and end == FOR and strength > STRONG:
            shown = 0
        elif not dark and end == AGAINST and strength > FULL:
            shown = 255
        else:
            shown = ink
        mixed = tuple(paper + strength * (part - paper) for part in end)
        light, deep = sorted((luminance(mixed), luminance((shown,) * 3)), reverse=True)  # type: ignore[arg-type]
        assert (light + 0.05) / (deep + 0.05) >= 4.5, strength
