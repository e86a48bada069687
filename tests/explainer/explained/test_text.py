"""Texts to tokens: offsets, words, segments, what may be scored, and every refusal."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CanineTokenizer

from explainer.explained import EncodedText, ExplainedModel
from explainer.explained.text import TextEncoder
from tests.families import FAMILIES, TEXTS, WORDS, explained, tokenizer

LONG = " ".join(["very really fun film"] * 20)  # 80 words; the models take 40 tokens


def pieces(model: ExplainedModel, text: EncodedText) -> list[str]:
    found = model.tokenizer.convert_ids_to_tokens(text.tokens.input_ids.tolist())
    return [piece.removeprefix("##").lstrip("▁Ġ") for piece in found]


def check_offsets(model: ExplainedModel, text: EncodedText) -> None:
    """Every scorable token's span of its own text is the token, lower-cased and without white space."""
    sources = (text.text, text.text_pair or "")
    for i, piece in enumerate(pieces(model, text)):
        if text.scorable[i] and piece != model.tokenizer.unk_token:
            start, end = text.offsets[i]
            assert not piece or sources[text.segments[i]][start:end].strip().lower() == piece.lower()


@pytest.mark.parametrize("family", FAMILIES)
def test_offsets_reproduce_the_tokens(family: str) -> None:
    model = explained(family)
    for text in model.encode([*TEXTS, "  The FILM,really   fun!  "]):
        assert text.n_scorable > 0
        check_offsets(model, text)


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet=st.sampled_from("abcXYZ .,!?\n\té漢"), max_size=25))
def test_offsets_are_right_on_any_text(text: str) -> None:
    model = explained("bert")
    encoded = model.encode([text])[0]
    check_offsets(model, encoded)
    assert len(encoded.offsets) == len(encoded.words) == len(encoded.segments) == len(encoded)


@pytest.mark.parametrize("family", FAMILIES)
def test_specials_are_not_scorable_and_the_text_s_tokens_are(family: str) -> None:
    model = explained(family)
    text = model.encode(["the film was fun"])[0]
    special = torch.isin(text.tokens.input_ids, torch.tensor(model.tokenizer.all_special_ids))
    assert torch.equal(text.scorable, ~special)
    assert text.n_scorable == 4
    assert [word for word, scorable in zip(text.words, text.scorable, strict=True) if scorable] == [0, 1, 2, 3]
    assert all(word == -1 for word, scorable in zip(text.words, text.scorable, strict=True) if not scorable)


def test_pieces_of_one_word_share_its_number() -> None:
    text = explained("bert").encode(["goodly film"])[0]
    assert text.words == (-1, 0, 0, 1, -1)


def test_an_unknown_word_is_text() -> None:
    model = explained("bert")
    text = model.encode(["the 漢 film"])[0]
    assert pieces(model, text)[2] == "[UNK]"
    assert text.scorable.tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(
    ("family", "typed"), [("bert", "[SEP]"), ("bert", "[MASK]"), ("bert", "[PAD]"), ("llama", "</s>")]
)
def test_a_typed_special_token_is_not_scored(family: str, typed: str) -> None:
    model = explained(family)
    text = model.encode([f"the {typed} film"])[0]
    place = text.tokens.input_ids[1:].tolist().index(model.tokenizer.convert_tokens_to_ids(typed)) + 1
    assert not text.scorable[place]
    assert max(text.words) == 1


def test_a_typed_unknown_token_is_scored() -> None:
    assert explained("bert").encode(["the [UNK] film"])[0].n_scorable == 3


@pytest.mark.parametrize("family", ["bert", "roberta", "llama", "qwen2", "t5"])
def test_pairs_know_their_segments(family: str) -> None:
    model = explained(family)
    text = model.encode(["the film"], ["was good fun"])[0]
    assert text.text_pair == "was good fun"
    assert [s for s, scorable in zip(text.segments, text.scorable, strict=True) if scorable] == [0, 0, 1, 1, 1]
    check_offsets(model, text)


def test_pairs_carry_token_types_of_an_encoder() -> None:
    text = explained("bert").encode(["the film"], ["was good"])[0]
    assert text.tokens.token_type_ids is not None
    assert text.tokens.token_type_ids.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_pairs_may_be_missing_for_some_texts() -> None:
    both, one = explained("bert").encode(["the film", "the plot"], ["was good", None])
    assert both.text_pair == "was good"
    assert one.text_pair is None
    assert len(one) == 4


@pytest.mark.parametrize("family", FAMILIES)
def test_truncation_warns_with_the_numbers_and_keeps_offsets(family: str) -> None:
    model = explained(family)
    specials = model.tokenizer.num_special_tokens_to_add()
    with pytest.warns(
        UserWarning, match=rf"Text 1 has {80 + specials} tokens, the model takes 40: the last {40 + specials} tokens"
    ):
        short, long = model.encode(["the film", LONG])
    assert len(long) == 40
    assert long.text == LONG
    assert long.n_scorable == 40 - specials
    check_offsets(model, long)
    check_offsets(model, short)


def test_a_truncated_pair_keeps_both_texts() -> None:
    model = explained("bert")
    with pytest.warns(UserWarning, match="Text 0 has 163 tokens"):
        text = model.encode([LONG], [LONG])[0]
    assert len(text) == 40
    scored = [s for s, scorable in zip(text.segments, text.scorable, strict=True) if scorable]
    assert min(scored.count(0), scored.count(1)) > 0
    check_offsets(model, text)


def test_a_text_of_exactly_the_maximum_is_whole() -> None:
    assert len(explained("bert").encode([" ".join(["fun"] * 38)])[0]) == 40


def test_truncating_one_text_does_not_change_the_next_call() -> None:
    model = explained("bert")
    before = model.text.fingerprint
    with pytest.warns(UserWarning, match="tokens"):
        model.encode([LONG])
    assert model.text.fingerprint == before
    assert len(model.encode(["the film"])[0]) == 4


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_has_specials_only(text: str) -> None:
    encoded = explained("bert").encode([text])[0]
    assert encoded.n_scorable == 0
    assert len(encoded) == 2


def test_an_empty_text_without_any_token_is_refused() -> None:
    words = tokenizer("t5")
    words.backend_tokenizer.post_processor = None
    with pytest.raises(ValueError, match=r"`texts\[1\]` has no tokens"):
        TextEncoder(words, 40).encode(["fun", ""])


@pytest.mark.parametrize(("texts", "pairs"), [(["a", "b \udc80"], None), (["a", "b"], ["c", "d \udc80"])])
def test_half_of_a_surrogate_pair_is_refused(texts: list[str], pairs: list[str | None] | None) -> None:
    name = "texts" if pairs is None else "text_pairs"
    with pytest.raises(ValueError, match=rf"`{name}\[1\]` has one half of a surrogate pair, '\\udc80' at 2"):
        explained("bert").encode(texts, pairs)


def test_no_texts_are_no_encodings() -> None:
    assert explained("bert").encode([]) == []


# The run-time type check of the tests would be the first to complain: these go past it, as a user's call does.
encode_unchecked = getattr(TextEncoder.encode, "__wrapped__", TextEncoder.encode)


@pytest.mark.parametrize("value", [None, 3, 2.5, b"bytes", ["nested"]])
def test_a_text_that_is_no_string_is_named_by_its_index(value: object) -> None:
    with pytest.raises(TypeError, match=rf"`texts\[1\]` must be a string, got {type(value).__name__}"):
        encode_unchecked(explained("bert").text, ["fun", value])


def test_a_pair_that_is_no_string_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`text_pairs\[0\]` must be a string, got int"):
        encode_unchecked(explained("bert").text, ["fun"], [3])


def test_a_pair_that_is_no_string_is_named_by_its_text_s_index() -> None:
    with pytest.raises(TypeError, match=r"`text_pairs\[1\]` must be a string, got int"):
        encode_unchecked(explained("bert").text, ["fun", "bad"], [None, 3])


def test_one_string_is_refused() -> None:
    with pytest.raises(TypeError, match="wrap it in a list"):
        explained("bert").encode("the film")


def test_pairs_of_another_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`text_pairs` must have one entry per text \(2\), got 1"):
        explained("bert").encode(["fun", "bad"], ["good"])


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(ValueError, match="CanineTokenizer is not a fast tokenizer"):
        TextEncoder(CanineTokenizer(), 40)


def test_fingerprints_tell_tokenizers_apart() -> None:
    prints = {TextEncoder(tokenizer(kind), 40).fingerprint for kind in ("encoder", "decoder", "t5")}
    assert len(prints) == 3
    assert TextEncoder(tokenizer("encoder"), 40).fingerprint in prints


def test_every_known_word_is_one_token() -> None:
    texts = explained("bert").encode(WORDS.split())
    assert all(text.n_scorable == 1 for text in texts)
