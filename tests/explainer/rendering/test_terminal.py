"""The terminal shows the text as it is, with every scored word on its colour."""

from explainer.rendering.colour import AGAINST, FOR
from explainer.rendering.terminal import render
from tests.explainer.test_explanation import example


def spans() -> dict[str, str]:
    shown = render(example())
    return {shown.plain[span.start : span.end]: str(span.style) for span in shown.spans}


def test_the_text_is_whole_and_under_its_prediction() -> None:
    assert render(example()).plain == "good (75.0%) by sig\nGoodly film\nFun\n"


def test_words_have_their_colours() -> None:
    found = spans()
    assert set(found) == {"Goodly", "film", "Fun"}
    assert found["Goodly"] == "black on rgb({},{},{})".format(*AGAINST)
    assert found["Fun"] == "black on rgb({},{},{})".format(*FOR)


def test_what_lies_between_words_is_shown_too() -> None:
    shown = render(
        example(
            text="Goodly\t film  ",
            text_pair=None,
            offsets=[(0, 0), (0, 4), (4, 6), (8, 12)] + [(0, 0)] * 3,
            scorable=[False, True, True, True, False, False, False],
        )
    )
    assert shown.plain.splitlines()[1] == "Goodly\t film  "


def test_brackets_are_text_and_not_markup() -> None:
    shown = render(example(text="[bold] film", offsets=[(0, 0), (0, 3), (3, 6), (7, 11), (0, 0), (0, 3), (0, 0)]))
    assert "[bold] film" in shown.plain


def test_an_empty_text_is_its_prediction_alone() -> None:
    shown = render(example(text="", text_pair=None, scorable=[False] * 7))
    assert shown.plain == "good (75.0%) by sig\n\n"
