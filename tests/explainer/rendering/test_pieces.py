"""Pieces: every character of the text once, in order, with the scores that were given."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explainer.rendering.pieces import pieces, visible
from tests.explainer.explanation.test_text import example
from tests.explainer.rendering.odd import odd, plain


@given(odd(), st.sampled_from(["word", "token"]))
def test_pieces_are_the_text(changes: dict[str, Any], level: str) -> None:
    explanation = example(**changes)
    shown = pieces(explanation, level)  # type: ignore[arg-type]
    texts = [explanation.text] + ([] if explanation.text_pair is None else [explanation.text_pair])
    assert ["".join(piece.text for piece in text) for text in shown] == texts
    for text in shown:
        assert [piece.start for piece in text] == [sum(len(p.text) for p in text[:i]) for i in range(len(text))]


@given(odd())
def test_no_score_is_lost(changes: dict[str, Any]) -> None:
    explanation = example(**changes)
    shown = [piece.score for text in pieces(explanation, "token") for piece in text if piece.score is not None]
    assert sum(shown) == pytest.approx(sum(explanation.scores), abs=1e-5)
    assert sum(map(bool, shown)) <= sum(explanation.scorable)


def test_words_join_their_tokens_and_tokens_say_that_they_continue() -> None:
    words, _ = pieces(example())
    tokens, _ = pieces(example(), "token")
    assert [(p.text, p.score) for p in words] == [("Goodly", -2.0), (" ", None), ("film", 0.5)]
    assert [(p.text, p.mark) for p in tokens] == [("Good", ""), ("ly", "##"), (" ", ""), ("film", "")]
    assert tokens[1].tokens == ("##ly",)


def test_tokens_of_other_tokenizers_are_shown_by_their_offsets() -> None:
    explanation = plain(["ab", "cd"], [1.0, 2.0], text="abcd", offsets=[(0, 2), (2, 4)], words_of_tokens=[0, 0])
    assert [piece.shown for piece in pieces(explanation, "token")[0]] == ["ab", "·cd"]
    spaced = plain(["▁a", "\n"], [1.0, 2.0], text=" a\n", offsets=[(0, 2), (2, 3)])
    assert [piece.shown for piece in pieces(spaced, "token")[0]] == ["␣a", "⏎"]


def test_tokens_of_one_character_are_one_piece_with_their_sum() -> None:
    bytes_ = plain(["ð", "Ł", "x"], [1.0, 2.0, 4.0], text="😀x", offsets=[(0, 1), (0, 1), (1, 2)])
    emoji, x = pieces(bytes_, "token")[0]
    assert (emoji.text, emoji.score, emoji.mark, emoji.tokens) == ("😀", 3.0, "×2", ("ð", "Ł"))
    assert (x.text, x.score) == ("x", 4.0)


def test_a_token_without_characters_is_still_shown() -> None:
    explanation = plain(["▁", "a"], [1.0, 2.0], text="a", offsets=[(0, 0), (0, 1)])
    assert [piece.shown for piece in pieces(explanation, "token")[0]] == ["∅", "a"]


def test_nothing_that_is_shown_moves_the_cursor() -> None:
    assert visible("a\x1b[31m\tb\x9b\u202ec\x7f") == "a␛[31m    b��c␡"


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="`level` must be 'word' or 'token', got 'sentence'"):
        getattr(pieces, "__wrapped__", pieces)(example(), "sentence")
