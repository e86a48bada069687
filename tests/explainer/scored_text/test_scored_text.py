"""Scored texts: their words and units, with the scores of their tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explainer.scored_text import Caption, ScoredText, Word


def example(**changes: object) -> ScoredText:
    """[CLS] good ##ly film . [SEP] Fun [SEP]"""
    values: dict[str, object] = {
        "text": "Goodly film. So",
        "text_pair": "Fun",
        "tokens": ["[CLS]", "good", "##ly", "film", ".", "so", "[SEP]", "fun", "[SEP]"],
        "offsets": [(0, 0), (0, 4), (4, 6), (7, 11), (11, 12), (13, 15), (0, 0), (0, 3), (0, 0)],
        "scorable": [False, True, True, True, True, True, False, True, False],
        "words_of_tokens": [-1, 0, 0, 1, 2, 3, -1, 0, -1],
        "segments": [0, 0, 0, 0, 0, 0, 0, 1, 0],
        "scores": [0.0, 1.0, -3.0, 0.5, 0.25, 4.0, 0.0, 2.0, 0.0],
    }
    return ScoredText(**(values | changes))  # type: ignore[arg-type]


# Words


@pytest.mark.parametrize(("aggregation", "score"), [("sum", -2.0), ("average", -1.0), ("max", -3.0), ("first", 1.0)])
def test_words_join_their_tokens(aggregation: str, score: float) -> None:
    assert example().words(aggregation) == [  # type: ignore[arg-type]
        Word("Goodly", score, 0, 6, 0),
        Word("film", 0.5, 7, 11, 0),
        Word(".", 0.25, 11, 12, 0),
        Word("So", 4.0, 13, 15, 0),
        Word("Fun", 2.0, 0, 3, 1),
    ]


def test_none_gives_every_token_by_itself() -> None:
    assert example().words("none")[:3] == [
        Word("good", 1.0, 0, 4, 0),
        Word("##ly", -3.0, 4, 6, 0),
        Word("film", 0.5, 7, 11, 0),
    ]


def test_words_of_the_same_number_in_two_texts_stay_apart() -> None:
    assert [word.segment for word in example().words()] == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("simple", "attributions have no entities"),
        ("median", "`aggregation` must be one of sum, average, max, first, none, got 'median'"),
    ],
)
def test_other_aggregations_are_refused(name: str, message: str) -> None:
    unchecked = getattr(ScoredText.words, "__wrapped__", ScoredText.words)
    with pytest.raises(ValueError, match=message):
        unchecked(example(), name)


def test_without_scored_tokens_there_are_no_words_and_no_units() -> None:
    silent = example(scorable=[False] * 9)
    assert silent.words() == silent.units("sentence") == silent.units("paragraph") == []


# Units


def test_sentences_have_the_sums_of_their_tokens() -> None:
    assert example().units("sentence") == [
        Word("Goodly film.", -1.25, 0, 12, 0),
        Word("So", 4.0, 13, 15, 0),
        Word("Fun", 2.0, 0, 3, 1),
    ]


def test_paragraphs_and_words_are_units_too() -> None:
    assert [unit.word for unit in example().units("paragraph")] == ["Goodly film. So", "Fun"]
    assert example().units("word") == example().words()


def test_given_ranges_come_back_one_by_one() -> None:
    assert example().units([(13, 15), (12, 13), (7, 12), (0, 3, 1)]) == [
        Word("So", 4.0, 13, 15, 0),
        Word(" ", 0, 12, 13, 0),
        Word("film.", 0.75, 7, 12, 0),
        Word("Fun", 2.0, 0, 3, 1),
    ]


def test_the_units_that_the_text_was_scored_in() -> None:
    scored = example(units_of_tokens=[-1, 5, 5, 5, -1, 7, -1, 5, -1])
    assert scored.units() == [
        Word("Goodly film", -1.5, 0, 11, 0),
        Word("So", 4.0, 13, 15, 0),
        Word("Fun", 2.0, 0, 3, 1),
    ]
    with pytest.raises(ValueError, match="`units` must name the units: this text was scored token by token"):
        example().units()


@given(st.lists(st.floats(-5, 5, width=32), min_size=9, max_size=9), st.sampled_from(["word", "sentence", "paragraph"]))
def test_no_level_loses_a_score(scores: list[float], level: str) -> None:
    scored = example(
        scores=[score if scorable else 0.0 for score, scorable in zip(scores, example().scorable, strict=True)]
    )
    assert sum(unit.score for unit in scored.units(level)) == pytest.approx(sum(scored.scores), abs=1e-5)  # type: ignore[arg-type]


def test_a_scored_text_has_no_caption_of_its_own() -> None:
    assert example().caption == Caption()
    assert example().texts == ["Goodly film. So", "Fun"]
    assert example(text_pair=None, segments=[0] * 9).texts == ["Goodly film. So"]
