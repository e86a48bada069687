"""Explanations: words from tokens, and the record that is written."""

import json

import pytest

from explainer.attributor import Attributor
from explainer.explanation import Explanation, Word
from explainer.methods import SIG
from tests.families import explained


def example(**changes: object) -> Explanation:
    """[CLS] good ##ly film [SEP] Fun [SEP]"""
    values: dict[str, object] = {
        "text": "Goodly film",
        "text_pair": "Fun",
        "tokens": ["[CLS]", "good", "##ly", "film", "[SEP]", "fun", "[SEP]"],
        "input_ids": [2, 12, 28, 7, 3, 17, 3],
        "offsets": [(0, 0), (0, 4), (4, 6), (7, 11), (0, 0), (0, 3), (0, 0)],
        "scorable": [False, True, True, True, False, True, False],
        "words_of_tokens": [-1, 0, 0, 1, -1, 0, -1],
        "segments": [0, 0, 0, 0, 0, 1, 0],
        "scores": [0.0, 1.0, -3.0, 0.5, 0.0, 2.0, 0.0],
        "target": 1,
        "target_label": "good",
        "probabilities": [0.25, 0.75],
        "method": "sig",
    }
    return Explanation(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(("aggregation", "score"), [("sum", -2.0), ("average", -1.0), ("max", -3.0), ("first", 1.0)])
def test_words_join_their_tokens(aggregation: str, score: float) -> None:
    assert example().words(aggregation) == [
        Word("Goodly", score, 0, 6, 0),
        Word("film", 0.5, 7, 11, 0),
        Word("Fun", 2.0, 0, 3, 1),
    ]


def test_none_gives_every_token_by_itself() -> None:
    assert example().words("none") == [
        Word("good", 1.0, 0, 4, 0),
        Word("##ly", -3.0, 4, 6, 0),
        Word("film", 0.5, 7, 11, 0),
        Word("fun", 2.0, 0, 3, 1),
    ]


def test_simple_is_refused_with_its_reason() -> None:
    unchecked = getattr(Explanation.words, "__wrapped__", Explanation.words)
    with pytest.raises(ValueError, match="attributions have no entities"):
        unchecked(example(), "simple")


def test_words_of_the_same_number_in_two_texts_stay_apart() -> None:
    assert [word.segment for word in example().words()] == [0, 0, 1]


def test_an_unknown_aggregation_is_refused() -> None:
    unchecked = getattr(Explanation.words, "__wrapped__", Explanation.words)
    with pytest.raises(ValueError, match="`aggregation` must be one of sum, average, max, first, none, got 'median'"):
        unchecked(example(), "median")


def test_without_scored_tokens_there_are_no_words() -> None:
    assert example(scorable=[False] * 7).words() == []


def test_the_record_is_json_and_has_every_field_but_the_text() -> None:
    record = example().record()
    assert json.loads(json.dumps(record))["scores"] == example().scores
    names = {
        "tokens",
        "input_ids",
        "offsets",
        "scorable",
        "scores",
        "target",
        "target_label",
        "probabilities",
        "method",
    }
    assert set(record) == names


def test_words_of_a_real_text_are_its_own_and_keep_the_sum() -> None:
    text = "The plot, goodly  FILM!"
    explanation = Attributor(explained("bert"), SIG())([text])[0]
    words = explanation.words()
    assert [word.word for word in words] == ["The", "plot", ",", "goodly", "FILM", "!"]
    assert all(text[word.start : word.end] == word.word for word in words)
    assert sum(word.score for word in words) == pytest.approx(sum(explanation.scores), abs=1e-6)
