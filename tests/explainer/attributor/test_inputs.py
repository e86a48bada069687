"""What an attributor is given: one or many, pairs, words already split."""

from collections.abc import Iterator

import pytest
import torch

from explainer.attributor.inputs import amount, classes, encode, rows
from explainer.explained.base import PREDICTED
from tests.families import FAMILIES, explained

WORDS = ["The", "goodly", "film", "isn't", "New York", "dull!"]


def one_by_one() -> Iterator[str]:
    yield "a film"


@pytest.mark.parametrize(
    ("texts", "split", "found"),
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
def test_one_text_a_list_or_a_stream(texts: object, split: bool, found: str) -> None:
    assert amount(texts, split) == found


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="`texts` must be a text, a list of texts or an iterable of texts, got int"):
        amount(3)


def test_mappings_are_taken_apart_and_pairs_go_beside() -> None:
    given = [{"text": "a", "text_pair": "b", "label": 1}, "c", {"text": "d"}]
    assert list(rows(given)) == [("a", "b"), ("c", None), ("d", None)]
    assert list(rows(["a", "c"], ["b", None])) == [("a", "b"), ("c", None)]


def test_rows_are_read_one_by_one() -> None:
    def texts() -> Iterator[str]:
        yield "a"
        pytest.fail("read ahead")

    assert next(rows(texts())) == ("a", None)


def test_mappings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`texts\[1\]` is a mapping without a `text`; it has txt"):
        list(rows(["a", {"txt": "b"}]))
    with pytest.raises(ValueError, match="leave `text_pairs` out"):
        list(rows([{"text": "a"}], ["b"]))


def test_texts_and_pairs_of_a_stream_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(rows(iter(["a", "b"]), iter(["c"])))


@pytest.mark.parametrize("family", FAMILIES)
def test_words_given_read_as_the_text_joined_by_spaces(family: str) -> None:
    model = explained(family)
    given, joined = encode(model, [(WORDS, None)], True)[0], model.encode([" ".join(WORDS)])[0]
    assert given.text == "The goodly film isn't New York dull!"
    assert torch.equal(given.tokens.input_ids, joined.tokens.input_ids)
    assert given.offsets == joined.offsets
    assert torch.equal(given.scorable, joined.scorable)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_tokens_and_words_are_those_of_the_tokenizer_given_words(family: str) -> None:
    model = explained(family)
    words = [word for word in WORDS if " " not in word]
    theirs = model.tokenizer(words, is_split_into_words=True)
    ours = encode(model, [(words, None)], True)[0]
    assert ours.tokens.input_ids.tolist() == theirs["input_ids"]
    assert list(ours.words) == [-1 if word is None else word for word in theirs.word_ids()]


def test_a_word_with_a_space_or_nothing_in_it_keeps_its_number() -> None:
    text = encode(explained("bert"), [(["New York", "", "fun"], ["a b", "c"])], True)[0]
    found = {(segment, word) for segment, word in zip(text.segments, text.words, strict=True) if word >= 0}
    assert found == {(0, 0), (0, 2), (1, 0), (1, 1)}


@pytest.mark.parametrize("words", ["a film", [1], None])
def test_what_is_no_list_of_words_is_refused(words: object) -> None:
    with pytest.raises(TypeError, match=r"`texts\[0\]` must be a list of words"):
        encode(explained("bert"), [(words, None)], True)


def test_one_class_a_text_or_several_for_each() -> None:
    model = explained("bert")
    assert classes(model, "predicted", None, 2).tolist() == [[PREDICTED], [PREDICTED]]
    assert classes(model, [0, "LABEL_2"], None, 2).tolist() == [[0], [2]]
    assert classes(model, "predicted", "all", 2).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert classes(model, "predicted", [2, "predicted"], 1).tolist() == [[2, PREDICTED]]
    assert classes(model, "predicted", "all", 0).shape == (0, 3)


@pytest.mark.parametrize(
    ("target", "targets", "message"),
    [
        (1, "all", "`target` and `targets` exclude each other"),
        ("predicted", "LABEL_1", "`targets` must be 'all' or a list"),
        ("predicted", [], "`targets` must be 'all' or a list"),
        ("predicted", ["LABEL_7"], "`target` must be 'predicted', one of the labels"),
    ],
)
def test_classes_that_mean_nothing_are_refused(target: object, targets: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classes(explained("bert"), target, targets, 2)  # type: ignore[arg-type]
