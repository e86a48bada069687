"""The texts of a call: one or many, pairs, words already split."""

from collections.abc import Iterator

import pytest
import torch

from explainer.attributor.inputs import TextInput, encode, input_kind, read
from tests.families import FAMILIES, explained

WORDS = ["The", "goodly", "film", "isn't", "New York", "dull!"]


def one_by_one() -> Iterator[str]:
    yield "a film"


@pytest.mark.parametrize(
    ("texts", "split", "kind"),
    [
        ("a film", False, "one"),
        ({"text": "a film"}, False, "one"),
        (["a film"], False, "list"),
        (("a film",), False, "list"),
        ([], False, "list"),
        ([], True, "list"),
        (["a", "film"], True, "one"),
        ([["a", "film"]], True, "list"),
        ([[]], True, "list"),
        (one_by_one(), False, "stream"),
        ({"a film": 1}.keys(), False, "stream"),
    ],
    ids=lambda value: str(value)[:20] if not isinstance(value, Iterator) else "generator",
)
def test_one_text_a_list_or_a_stream(texts: object, split: bool, kind: str) -> None:
    assert input_kind(texts, split) == kind
    assert read(texts, None, split).kind == kind


def test_anything_else_is_refused() -> None:
    with pytest.raises(TypeError, match="`texts` must be a text, a list of texts or an iterable of texts, got int"):
        read(3)


def test_mappings_are_taken_apart_and_pairs_come_with_their_texts() -> None:
    given = [{"text": "a", "text_pair": "b", "label": 1}, "c", {"text": "d"}]
    assert list(read(given).items) == [("a", "b"), ("c", None), ("d", None)]
    assert list(read(["a", "c"], ["b", None]).items) == [("a", "b"), ("c", None)]
    assert list(read("a", "b").items) == [("a", "b")]
    assert list(read(["a", "b"], ["c"], is_split_into_words=True).items) == [(["a", "b"], ["c"])]


def test_items_are_read_one_by_one() -> None:
    def texts() -> Iterator[str]:
        yield "a"
        pytest.fail("read ahead")

    assert next(read(texts()).items) == ("a", None)


def test_mappings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`texts\[1\]` is a mapping without a `text`, or a `question` and its `context`; it has txt"
    ):
        list(read(["a", {"txt": "b"}]).items)
    with pytest.raises(ValueError, match="leave `text_pairs` out"):
        list(read([{"text": "a"}], ["b"]).items)


def test_texts_and_pairs_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(read(iter(["a", "b"]), iter(["c"])).items)
    with pytest.raises(ValueError, match=r"`text_pairs` must have one entry per text \(2\), got 1"):
        read(["a", "b"], ["c"])


def with_words(words: object, pair: object = None, family: str = "bert"):
    return encode(explained(family), [TextInput(words, pair)], True)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_words_given_read_as_the_text_joined_by_spaces(family: str) -> None:
    given, joined = with_words(WORDS, family=family), explained(family).encode([" ".join(WORDS)])[0]
    assert given.text == "The goodly film isn't New York dull!"
    assert torch.equal(given.tokens.input_ids, joined.tokens.input_ids)
    assert given.offsets == joined.offsets
    assert torch.equal(given.scorable, joined.scorable)


@pytest.mark.parametrize("family", ["bert", "t5"])  # byte-level tokenizers treat a word after a space differently
def test_tokens_and_words_are_those_of_the_tokenizer_given_words(family: str) -> None:
    words = [word for word in WORDS if " " not in word]
    encoding = explained(family).tokenizer(words, is_split_into_words=True)
    text = with_words(words, family=family)
    assert text.tokens.input_ids.tolist() == encoding["input_ids"]
    assert list(text.words) == [-1 if word is None else word for word in encoding.word_ids()]


def test_a_word_with_a_space_or_nothing_in_it_keeps_its_number() -> None:
    text = with_words(["New York", "", "fun"], ["a b", "c"])
    numbers = {(segment, word) for segment, word in zip(text.segments, text.words, strict=True) if word >= 0}
    assert numbers == {(0, 0), (0, 2), (1, 0), (1, 1)}


@pytest.mark.parametrize("words", ["a film", [1], None])
def test_a_text_that_is_no_list_of_words_is_refused(words: object) -> None:
    with pytest.raises(TypeError, match=r"`texts\[0\]` must be a list of words"):
        with_words(words)
