"""Columns: equal words below each other; folding keeps what is strong and counts what it hides; lines lose no word."""

from hypothesis import given
from hypothesis import strategies as st

from explainer.rendering.columns import Column, columns, folded, lines
from explainer.rendering.pieces import Piece, pieces
from tests.explainer.explanation.test_text import example
from tests.explainer.rendering.odd import TEXTS, odd


def column(text: str, strength: float = 0.0) -> Column:
    score = None if text.isspace() else strength
    return Column(((Piece(text, 0, score, strength),),), words=int(text.isalnum()))


def spaced(strengths: list[float]) -> list[Column]:
    return [part for i, strength in enumerate(strengths) for part in (column(f"w{i}", strength), column(" "))]


@given(st.data())
def test_every_row_of_the_columns_is_the_text(data: st.DataObject) -> None:
    text = data.draw(TEXTS)
    explanations = [
        example(**changes) for changes in data.draw(st.lists(odd(text, pair=False), min_size=1, max_size=3))
    ]
    parts = columns([pieces(one, "token")[0] for one in explanations])
    for i in range(len(explanations)):
        assert "".join(piece.text for column in parts for piece in column.rows[i]) == text
    for one in parts:
        assert len({"".join(piece.text for piece in row) for row in one.rows}) == 1


def test_words_are_counted_as_people_do() -> None:
    text = "don't stop — 映画は 2nd-rate!"
    (only,) = columns([[Piece(text, 0)]])
    assert only.words == 7  # don't, stop, 映, 画, は, 2nd, rate


@given(st.lists(st.floats(-1, 1), min_size=40, max_size=120), st.integers(5, 30))
def test_folding_keeps_the_strongest_and_counts_the_rest(strengths: list[float], max_words: int) -> None:
    (shortened,) = folded([spaced(strengths)], max_words)
    shown = {part.text for part in shortened if part.words}
    strongest = max(range(len(strengths)), key=lambda i: abs(strengths[i]))
    assert f"w{strongest}" in shown
    assert len(shown) + sum(part.omitted for part in shortened) == len(strengths)
    order = [part.text for part in shortened if part.words]
    assert order == sorted(order, key=lambda text: int(text[1:]))


def test_folding_stays_near_what_was_asked_for_and_never_hides_a_few_words() -> None:
    (shortened,) = folded([spaced([1.0 if i in (40, 50, 200) else 0.01 for i in range(300)])], 60)
    assert 40 <= sum(part.words for part in shortened) <= 90
    assert min(part.omitted for part in shortened if part.omitted) > 6
    assert [Column((), omitted=n).ellipsis for n in (0, 1, 1234)] == ["", "… 1 word …", "… 1,234 words …"]


def test_a_short_text_or_one_without_a_limit_is_not_folded() -> None:
    for text, limit in ((spaced([0.1] * 50), 50), (spaced([0.1] * 500), None)):
        assert folded([text], limit) == [text]


def test_both_texts_of_a_pair_are_folded_together() -> None:
    first, second = folded([spaced([0.01] * 100), spaced([0.01] * 99 + [1.0])], 30)
    assert [part.omitted for part in first if part.omitted] == [100 - sum(part.words for part in first)]
    assert second[-2].text == "w99"


@given(st.lists(st.sampled_from(["word", "a", "longer-word", " ", "  ", "\n", "."]), max_size=40), st.integers(12, 30))
def test_lines_are_no_wider_than_asked_and_lose_blanks_only(texts: list[str], width: int) -> None:
    parts = [column(text) for text in texts]
    broken = lines(parts, width, lambda part: len(part.text))
    assert "".join("".join(part.text for line in broken for part in line).split()) == "".join("".join(texts).split())
    for line in broken:
        assert sum(len(part.text) for part in line) <= width


def test_lines_break_at_blanks_and_where_the_text_does() -> None:
    broken = lines([column(text) for text in ("ab", " ", "cd", ".", "\n", " ", "ef")], 4, lambda part: len(part.text))
    assert ["".join(part.text for part in line) for line in broken] == ["ab", "cd.", " ef"]
