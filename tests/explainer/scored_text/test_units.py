"""Units: sentences and paragraphs cover the text; every token is in one; ranges are those that were given."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explainer.scored_text.units import unit_numbers, unit_ranges
from tests.families import TEXTS, explained

PARTS = st.sampled_from(
    ["A", "b", "Mr", ".", ". ", "...", "?! ", '" ', " (", "e.g. ", "。", "\n", "\n\n", " ", "9", "”"]
)


def split(text: str, level: str = "sentence") -> list[str]:
    return [text[unit.start : unit.end].strip() for unit in unit_ranges(text, None, level)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sentences",
    [
        ["A gem.", "See it!", "Why not?"],
        ["I loved it!", "the best film of the year."],
        ["it was dull .", "the plot was good .", "so what ?"],
        ["Dr. No met Mr. Smith of 3.5 St. James Street.", "He left."],
        ["J. K. Rowling wrote it.", "So did I.", "We agree."],
        ["It stars e.g. Ms. Day, i.e. a star.", "Fine."],
        ["They made props, sets etc. and more.", "Toys, props etc.", "The end."],
        ["The U.S. release was cut.", "It came in Jan. last year."],
        ["He came ... and went.", "Then ...", "Nothing."],
        ["“Really?” he asked.", "“Yes!”", "“Go.” she said.", "(Really.)", "Yes."],
        ["No. 5 is good.", "No.", "It is not."],
        ["1. First", "Then 2."],
        ["这部电影很好。", "我喜欢！", "「真的吗？」", "是的"],
        ["यह अच्छा है।", "हाँ।"],
        ["no end"],
    ],
)
def test_sentences_end_where_a_reader_ends_them(sentences: list[str]) -> None:
    text = ("" if re.search("[。！]", sentences[0]) else " ").join(sentences)
    if sentences[0] == "1. First":
        text = "1. First\n\nThen 2."
    assert split(text) == sentences


def test_a_blank_line_ends_a_sentence_and_a_paragraph_and_a_line_break_neither() -> None:
    text = "A title\n\nThe first\nline. More\r\n \r\nLast\n\n\n"
    assert split(text, "paragraph") == ["A title", "The first\nline. More", "Last"]
    assert split(text) == ["A title", "The first\nline.", "More", "Last"]


@given(st.lists(PARTS, max_size=40).map("".join), st.sampled_from(["sentence", "paragraph"]))
def test_sentences_and_paragraphs_cover_the_text_once(text: str, level: str) -> None:
    units = unit_ranges(text, None, level)  # type: ignore[arg-type]
    assert "".join(text[unit.start : unit.end] for unit in units) == text
    assert all(unit.start < unit.end for unit in units)
    if text.strip():
        assert all(text[unit.start : unit.end].strip() for unit in units)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("level", ["word", "sentence", "paragraph"])
def test_every_scorable_token_is_in_one_unit_and_no_other_is(family: str, level: str) -> None:
    pairs = [None, "good . bad !", "", None]
    for text in explained(family).encode(TEXTS, pairs):
        numbers = unit_numbers(
            text.text,
            text.offsets,
            text.scorable.tolist(),
            text.segments,
            level,  # type: ignore[arg-type]
            text_pair=text.text_pair,
            words=text.words,
        )
        assert [number >= 0 for number in numbers] == text.scorable.tolist()
        used = [number for number in numbers if number >= 0]
        assert used == sorted(used)
        assert len(
            {(number, segment) for number, segment in zip(numbers, text.segments, strict=True) if number >= 0}
        ) == len(set(used))


def numbers(text: str, offsets: list[tuple[int, int]], units: object, **options: object) -> tuple[int, ...]:
    n = len(offsets)
    return unit_numbers(text, offsets, [True] * n, options.pop("segments", [0] * n), units, **options)  # type: ignore[arg-type]


def test_a_token_with_a_blank_before_it_belongs_to_its_letters() -> None:
    text = "Bad. I liked it"
    assert numbers(text, [(0, 3), (3, 4), (4, 6), (6, 12), (12, 15)], "sentence") == (0, 0, 1, 1, 1)
    assert numbers(text, [(3, 4), (4, 5), (15, 15)], "sentence") == (0, 0, 1)  # the blank alone goes with what it ends


def test_a_token_belongs_to_the_range_that_has_most_of_it() -> None:
    assert numbers("abcdefghij", [(0, 3), (2, 5), (3, 7), (8, 10)], [(4, 8), (0, 4)]) == (1, 1, 0, -1)
    assert numbers("abc", [(0, 3), (0, 2)], [(0, 2), (0, 2, 1)], text_pair="xy", segments=[0, 1]) == (0, 1)


def test_tokens_without_a_score_are_in_no_unit() -> None:
    assert unit_numbers("No. B", [(0, 0), (0, 3), (4, 5)], [False, True, True], [0, 0, 0], "sentence") == (-1, 0, 1)


def test_even_an_empty_text_is_one_unit() -> None:
    assert numbers("", [(0, 0)], "sentence") == (0,)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ("word", "`units` 'word' needs `words`"),
        ([(0, 2), (3, 9)], r"`units\[1\]` must be characters \(start, end\) of a text of 4"),
        ([(2, 2)], r"`units\[0\]` must be characters"),
        ([(0, 1, 1)], r"`units\[0\]` must be characters"),
        ([(0, 3), (2, 4)], r"`units` must not overlap, got \(0, 3\) and \(2, 4\)"),
    ],
)
def test_other_units_are_refused(units: object, message: str) -> None:
    unchecked = getattr(unit_numbers, "__wrapped__", unit_numbers)
    with pytest.raises(ValueError, match=message):
        unchecked("abcd", [(0, 4)], [True], [0], units)


def test_an_unknown_level_is_refused() -> None:
    unchecked = getattr(unit_ranges, "__wrapped__", unit_ranges)
    with pytest.raises(
        ValueError, match=r"`units` must be one of word, sentence, paragraph or a list .*, got 'chapter'"
    ):
        unchecked("abcd", None, "chapter")
