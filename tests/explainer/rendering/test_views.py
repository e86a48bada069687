"""Views: made from one explanation or several, and shown in every place."""

from html import unescape

import pytest

from explainer.rendering import View, side_by_side, view
from tests.explainer.explanation.test_text import example


def test_one_explanation_has_its_method_as_label() -> None:
    explanation = example()
    assert view(explanation, level="token") == View({"sig": explanation}, level="token")


def test_several_have_given_labels_or_the_shortest() -> None:
    explanations = [example(), example(method="lrp")]
    assert side_by_side(explanations) == View(dict(zip(["sig", "lrp"], explanations, strict=True)))
    named = {"first": explanations[0], "second": explanations[1]}
    assert side_by_side(named, shared=True) == View(named, shared=True)


def test_explanations_of_several_texts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`explanations` must be of one text, got 2 texts"):
        side_by_side([example(), example(text="Goodly plot")])
    with pytest.raises(ValueError, match=r"got 0 texts"):
        side_by_side([])


@pytest.mark.parametrize("n", [1, 2])
def test_a_view_shows_the_same_everywhere(n: int, tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    shown = side_by_side([example(), example(method="lrp")][:n])
    shown.show(width=200)
    terminal = capsys.readouterr().out
    path = f"{tmp_path}/page.html"
    shown.to_html(path)
    with open(path, encoding="utf-8") as file:
        page = file.read()
    figure = [text.get_text() for text in shown.plot().texts]
    scale = "|score| 2, this text's largest word" if n == 1 else "the largest |score| of each (sig 2, lrp 2)"
    for written in (terminal, page, shown._repr_html_(), " ".join(figure)):
        assert written.count("Goodly") >= n
        assert "good 75.0%" in written
        assert scale in unescape(written)
    assert "<title>good: Goodly film</title>" in page
