"""Calls of an attributor with the types of their results: mypy checks this file, and `test_types.py` runs it."""

from collections.abc import Iterator
from typing import assert_type

from explainer.attributor import Attributor
from explainer.explanation import Explanation

TEXTS = ["the film was great fun", "bad"]


def one_text_gives_an_explanation(attributor: Attributor) -> None:
    one = assert_type(attributor("bad"), Explanation)
    assert isinstance(one, Explanation)
    assert assert_type(attributor({"text": "bad"}), Explanation) == one
    assert assert_type(attributor(["bad"], is_split_into_words=True), Explanation) == one
    pair = assert_type(attributor("bad", "good", target=1, foil=0, score="log_odds", trust=True), Explanation)
    assert pair.trust is not None


def a_list_or_tuple_gives_a_list(attributor: Attributor) -> None:
    explanations = assert_type(attributor(TEXTS), list[Explanation])
    assert isinstance(explanations, list)
    assert assert_type(attributor(tuple(TEXTS), target=["predicted"] * 2), list[Explanation]) == explanations
    assert assert_type(attributor([{"text": text} for text in TEXTS]), list[Explanation]) == explanations
    split = assert_type(attributor([["bad"], ["good"]], is_split_into_words=True), list[Explanation])
    assert split == assert_type(attributor(["bad", "good"]), list[Explanation])


def any_other_iterable_gives_an_iterator(attributor: Attributor) -> None:
    stream = assert_type(attributor(text for text in TEXTS), Iterator[Explanation])
    assert not isinstance(stream, list)
    assert list(stream) == list(assert_type(attributor.stream(TEXTS), Iterator[Explanation]))


def several_targets_give_dictionaries_by_label(attributor: Attributor) -> None:
    one = assert_type(attributor("bad", targets="all"), dict[str, Explanation])
    assert list(one) == attributor.explained.labels
    assert assert_type(attributor(["bad"], targets="all", is_split_into_words=True), dict[str, Explanation]) == one
    assert assert_type(attributor(["bad"], targets=[0, 1, 2]), list[dict[str, Explanation]]) == [one]
    assert list(assert_type(attributor(iter(["bad"]), targets="all"), Iterator[dict[str, Explanation]])) == [one]
    assert list(assert_type(attributor.stream(["bad"], targets="all"), Iterator[dict[str, Explanation]])) == [one]
