"""The figure: every word on its colour, one block a text, nothing outside the page."""

import io

from explainer.explanation import Explanation
from explainer.rendering.colour import AGAINST, FOR
from explainer.rendering.plot import heatmap
from tests.explainer.test_explanation import example


def long() -> Explanation:
    n = 60
    return example(
        text=" ".join(["film"] * n),
        text_pair=None,
        tokens=["film"] * n,
        input_ids=[7] * n,
        offsets=[(5 * i, 5 * i + 4) for i in range(n)],
        scorable=[True] * n,
        words_of_tokens=list(range(n)),
        segments=[0] * n,
        scores=[float(i) for i in range(n)],
    )


def test_every_word_and_prediction_is_written() -> None:
    texts = [text.get_text() for text in heatmap([example(), example()]).texts]
    assert texts == ["good 75%", "Goodly", "film", "Fun"] * 2


def test_words_stand_on_their_colours() -> None:
    _, goodly, _, fun = heatmap([example()]).texts
    for text, colour in ((goodly, AGAINST), (fun, FOR)):
        assert [round(255 * part) for part in text.get_bbox_patch().get_facecolor()[:3]] == list(colour)


def test_long_texts_wrap_inside_the_page() -> None:
    figure = heatmap([long()])
    assert len(figure.texts) == 61
    assert len({text.get_position()[1] for text in figure.texts}) > 1
    assert all(0 <= part <= 1 for text in figure.texts for part in text.get_position())


def test_texts_stand_below_each_other() -> None:
    figure = heatmap([long(), example()])
    heights = [text.get_position()[1] for text in figure.texts]
    assert max(heights[-4:]) < min(heights[:-4])


def test_a_figure_can_be_drawn_even_of_nothing() -> None:
    for explanations in ([], [example()]):
        buffer = io.BytesIO()
        heatmap(explanations).savefig(buffer, format="png")
        assert buffer.getvalue().startswith(b"\x89PNG")


def test_labels_take_the_place_of_predictions_and_words_stand_below_each_other() -> None:
    texts = heatmap([example(), example()], labels=["sig", "a longer name"]).texts
    assert [text.get_text() for text in texts][::4] == ["sig", "a longer name"]
    assert texts[1].get_position()[0] == texts[5].get_position()[0]
