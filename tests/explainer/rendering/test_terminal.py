"""The terminal: the text as it is, every scored word on its colour; signs where there are no colours."""

import io
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from explainer.rendering import View, side_by_side, view
from explainer.rendering.colour import AGAINST, FOR, WHITE, contrast
from explainer.rendering.terminal import DARK, Ink, is_dark
from tests.explainer.explanation.test_text import example
from tests.explainer.rendering.odd import long, odd, plain


def console(width: int = 80, colour: str | None = "truecolor", **options: Any) -> Console:
    return Console(width=width, file=io.StringIO(), force_terminal=colour is not None, color_system=colour, **options)  # type: ignore[arg-type]


def spans(shown: View, colour: str | None = "truecolor") -> dict[str, str]:
    """Styled parts of the text's lines."""
    to = console(colour=colour)
    styles = {}
    for line in list(shown.__rich_console__(to, to.options))[1:-1]:
        styles |= {line.plain[span.start : span.end]: str(span.style) for span in line.spans if span.style}
    return styles


def printed(shown: object, width: int = 80, colour: str | None = None, **options: Any) -> list[str]:
    to = console(width, colour, **options)
    to.print(shown)
    return to.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORFGBG", "0;15")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_words_have_their_colours() -> None:
    styles = spans(view(example()))
    assert set(styles) == {"Goodly", "film", "Fun"}
    assert styles["Goodly"] == "rgb(255,255,255) on rgb({},{},{})".format(*AGAINST)
    assert styles["Fun"] == "rgb(0,0,0) on rgb({},{},{})".format(*FOR)


def test_zero_has_neither_colour_nor_sign() -> None:
    zero = view(plain(["a", "b"], [0.0, 1.0]))
    assert set(spans(zero)) == {"b"}
    assert printed(zero)[1] == "a +++b"


@given(st.floats(-1, 1), st.sampled_from([WHITE, DARK]))
def test_words_can_be_read_on_light_and_dark(strength: float, paper: tuple[int, int, int]) -> None:
    style = Ink(paper).style(strength)
    if strength == 0:
        assert style == ""
    else:
        front, back = (tuple(int(part) for part in rgb[4:-1].split(",")) for rgb in style.split(" on "))
        assert contrast(front, back) >= 4.5  # type: ignore[arg-type]


def test_the_paper_is_asked_of_the_terminal() -> None:
    assert [is_dark({"COLORFGBG": value}) for value in ("0;15", "15;default;0", "15;8", "0;7", "nonsense")] == [
        False,
        True,
        True,
        False,
        True,
    ]


@pytest.mark.parametrize("colour", [None, "standard"])
def test_without_enough_colours_signs_say_how_strong(colour: str | None) -> None:
    words = plain(["a", "b", "c", "d", "e", "f"], [3.0, -3.0, 1.5, -0.4, 0.0, 0.1])
    assert printed(words, colour=colour)[1].startswith("+++a −−−b ++c −d e f")


def test_no_color_is_kept_to_and_signs_take_its_place() -> None:
    written = "\n".join(printed(example(), colour="truecolor", no_color=True))
    assert "38;2" not in written
    assert "−−−Goodly +film" in written


def test_colours_are_escapes_on_a_terminal_and_in_256_steps_where_there_are_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "48;2;0;114;178" in "\n".join(printed(example(), colour="truecolor"))
    monkeypatch.setenv("COLORFGBG", "15;0")  # other styles: rich keeps one as the first console wrote it
    assert "48;5;" in "\n".join(printed(example(), colour="256"))


def test_a_folded_text_says_how_much_is_hidden_and_all_of_it_can_be_asked_for() -> None:
    folded = " ".join(printed(long()))
    assert "+++w150" in folded
    hidden = [int(part.split()[0]) for part in folded.split("… ") if part[:1].isdigit()]
    shown = re.findall(r"\bw\d+", folded)
    assert len(shown) < 130
    assert sum(hidden) + len(shown) == 250
    assert "…" not in " ".join(printed(view(long(), max_words=None)))


@pytest.mark.parametrize("width", [30, 60, 100])
@given(odd(), st.sampled_from(["word", "token"]), st.integers(1, 3), st.sampled_from([None, "truecolor"]))
def test_no_line_is_wider_than_the_terminal(
    width: int, changes: dict[str, Any], level: str, n: int, colour: str | None
) -> None:
    explanations = {f"method {i}": example(**changes) for i in range(n)}
    to = console(width, colour)
    *text, _ = View(explanations, level=level).__rich_console__(to, to.options)  # type: ignore[arg-type]
    for line in text:  # the last one is the scale, which rich wraps
        assert cell_len(line.plain) <= width
        assert not any(ord(character) < 32 for character in line.plain)


@given(odd())
def test_the_text_is_whole(changes: dict[str, Any]) -> None:
    explanation = example(**(changes | {"text_pair": None, "segments": [0] * len(changes["tokens"])}))
    to = console(200)
    _, *lines, _, _ = view(explanation).__rich_console__(to, to.options)
    pictures = {c: chr(0x2400 + ord(c)) for c in "\x1b"} | {"\u202e": "�"}
    wanted = "".join("".join(pictures.get(c, c) for c in explanation.text).split())
    shown = "".join("".join(line.plain for line in lines).split())
    for sign in "∅␣⏎⇥":
        shown = shown.replace(sign, "")
    assert shown == wanted


def test_equal_words_stand_below_each_other() -> None:
    words = ["one", "two", "three", "four", "five", "six"] * 4
    explanations = [
        plain(words, [float(i - 9) for i in range(24)]),
        plain(words, [0.0] * 23 + [1.0], method="longer_name"),
    ]
    _, _, *lines = printed(side_by_side(explanations), 40)
    rows = [line for line in lines if line.startswith(("sig", "longer_name"))]
    assert len(rows) >= 8
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        assert upper[:12].strip() == "sig"
        for word in lower[12:].split():
            bare = word.strip("+")
            assert upper[lower.index(word) + len(word) - len(bare) :].startswith(bare) or bare in upper


def test_no_line_has_a_style_that_its_words_would_inherit() -> None:
    to = console()
    assert not any(line.style for line in side_by_side([long(), long()]).__rich_console__(to, to.options))


def test_a_dumb_terminal_is_asked_for_its_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("FORCE_COLOR", "1")  # that is: on a terminal
    monkeypatch.setenv("COLUMNS", "40")
    long().show()
    assert 30 < max(map(len, capsys.readouterr().out.splitlines())) <= 40


def test_brackets_are_text_and_not_markup() -> None:
    shown = example(text="[bold] film", offsets=[(0, 0), (0, 3), (3, 6), (7, 11), (0, 0), (0, 3), (0, 0)])
    assert "[bold]" in printed(shown)[1]


def test_an_empty_text_is_its_prediction_alone() -> None:
    shown = printed(example(text="", text_pair=None, scorable=[False] * 7))
    assert shown == ["good 75.0% · by sig", "", "", "no word has a score other than zero"]
