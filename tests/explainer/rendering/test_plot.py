"""The figure: every word on its colour, one block per text, nothing outside the page."""

import io
from typing import Any

import pytest
from hypothesis import given, settings
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from explainer.rendering import side_by_side, view
from explainer.rendering.colour import AGAINST, FOR
from explainer.rendering.plot import figure, heatmap
from tests.explainer.explanation.test_text import example
from tests.explainer.rendering.odd import long, odd, plain


def written(shown: Figure) -> list[str]:
    return [text.get_text() for text in shown.texts]


def papers(shown: Figure) -> list[list[int]]:
    """The colours that are not of the scale, which has 17."""
    patches = [patch for patch in shown.artists if isinstance(patch, Rectangle)]
    return [[round(255 * part) for part in patch.get_facecolor()[:3]] for patch in patches[:-17]]


def test_every_word_and_prediction_is_written() -> None:
    texts = written(heatmap([example(), example(method="")]))
    assert [texts.count(word) for word in ("good 75.0%", "Goodly", "film", "Fun")] == [2, 2, 2, 2]
    assert "by sig · full colour 2" in texts


def test_words_stand_on_their_colours_and_zero_on_none() -> None:
    assert papers(view(plain(["a", "b", "c"], [-1.0, 0.0, 1.0])).plot()) == [list(AGAINST), list(FOR)]


@pytest.mark.parametrize("shown", [lambda: heatmap([long(), example()]), lambda: side_by_side([long(), long()]).plot()])
def test_nothing_lies_outside_the_page_or_over_another(shown: Any) -> None:
    page: Figure = shown()
    canvas = FigureCanvasAgg(page)
    canvas.draw()
    boxes = [text.get_window_extent() for text in page.texts if text.get_text().strip()]
    across, up = page.get_size_inches() * page.dpi
    assert all(box.x0 >= 0 and box.x1 <= across and box.y0 >= 0 and box.y1 <= up for box in boxes)
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_a_page_is_as_high_as_its_texts() -> None:
    heights = [figure([view(long(n))]).get_size_inches()[1] for n in (10, 60, 110)]
    assert heights[0] < heights[1] < heights[2] < 5
    assert view(long(250)).plot().get_size_inches()[1] < view(long(250), max_words=None).plot().get_size_inches()[1]


def test_long_texts_are_folded_around_their_strongest_word() -> None:
    texts = written(heatmap([long()]))
    assert "w150" in texts
    assert len(texts) < 200
    hidden = sum(int(text.split()[1]) for text in texts if text.startswith("…"))
    assert hidden + sum(text[:1] == "w" and text[1:].isdigit() for text in texts) == 250


def test_labels_join_the_maps_of_one_text_and_words_stand_below_each_other() -> None:
    page = heatmap([example(), example(), long(20), long(20)], labels=["sig", "a longer name"] * 2)
    words = [text for text in page.texts if text.get_text() == "Goodly"]
    assert len(words) == 2
    assert words[0].get_position()[0] == words[1].get_position()[0]
    assert words[0].get_position()[1] > words[1].get_position()[1]
    assert written(page).count("good 75.0%") == 2


def test_money_is_not_mathematics() -> None:
    view(plain(["$5", "and", "$6^"], [1.0, 0.0, 1.0])).plot().savefig(io.BytesIO())


def test_a_figure_can_be_drawn_even_of_nothing() -> None:
    for page in (heatmap([]), heatmap([example(scorable=[False] * 7, text="", text_pair="")])):
        buffer = io.BytesIO()
        page.savefig(buffer, format="png")
        assert buffer.getvalue().startswith(b"\x89PNG")


@settings(max_examples=15, deadline=None)
@given(odd())
def test_any_text_is_drawn_without_a_warning(changes: dict[str, Any]) -> None:
    view(example(**changes), level="token").plot().savefig(io.BytesIO(), format="png")
