"""Words of the text's own characters, by the tokenizers of transformers' own classes."""

import unicodedata
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explainer.explained import EncodedText
from explainer.explained.text import TextEncoder
from explainer.scored_text import ScoredText, Word, word_numbers
from tests.families import tokenizer
from tests.real_tokenizers import REAL

KINDS = ["encoder", *REAL]
every_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def encoder(kind: str) -> TextEncoder:
    return TextEncoder(tokenizer(kind), None)


def scored(text: EncodedText) -> ScoredText:
    """The text, its i-th token scored 2^-i, so that every sum of scores names its tokens."""
    return ScoredText(
        text=text.text,
        text_pair=text.text_pair,
        tokens=[str(i) for i in text.tokens.input_ids.tolist()],
        offsets=list(text.offsets),
        scorable=text.scorable.tolist(),
        words_of_tokens=list(text.words),
        segments=list(text.segments),
        scores=[2.0**-i if scorable else 0.0 for i, scorable in enumerate(text.scorable.tolist())],
    )


def words(kind: str, text: str, pair: str | None = None) -> list[Word]:
    return scored(encoder(kind).encode([text], [pair])[0]).words()


@every_kind
def test_words_are_split_at_white_space_whatever_the_tokenizer_numbers(kind: str) -> None:
    found = words(kind, "  a dull  film ,\n but\tfun ", "not  good")
    assert [(word.word, word.segment) for word in found] == [
        *((word, 0) for word in ("a", "dull", "film", ",", "but", "fun")),
        *((word, 1) for word in ("not", "good")),
    ]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("encoder",), ["a", "film", ",", "isn", "'", "t", "fun", "!"]),
        (("gpt2", "roberta", "qwen2"), ["a", "film", ",", "isn", "'t", "fun", "!"]),
        (("llama", "gemma", "t5", "xlm_roberta", "deberta_v2"), ["a", "film,", "isn't", "fun!"]),
    ],
)
def test_punctuation_is_a_word_where_the_tokenizer_makes_it_one(kinds: tuple[str, ...], expected: list[str]) -> None:
    for kind in kinds:
        assert [word.word for word in words(kind, "a film, isn't fun!")] == expected


@pytest.mark.parametrize("kind", ["encoder", "gpt2", "qwen2", "roberta", "llama", "gemma"])
def test_chinese_is_not_one_word(kind: str) -> None:
    """BERT splits it itself; the bytes of a character stay together in the others."""
    assert [word.word for word in words(kind, "a 我喜欢 film")] == ["a", "我", "喜", "欢", "film"]


def test_a_token_of_an_unspaced_script_is_a_word_unless_it_begins_with_a_mark() -> None:
    thai = "ดีมาก ok"  # the second character is a vowel sign
    offsets = [(0, 1), (1, 2), (2, 4), (4, 5), (5, 6), (6, 8)]
    found = word_numbers([thai], [0] * 6, offsets, [True] * 6, [0] * 6, splits_unspaced=False)
    assert found == (0, 0, 1, 2, 3, 3)
    assert word_numbers([thai], [0] * 6, offsets, [True] * 6, [0] * 6) == (0, 0, 0, 0, 1, 1)


TEXTS = st.lists(
    st.sampled_from(
        [
            *"aBz9,.!'-",
            "film",
            "good",
            "漢",
            "字",
            "ア",
            "ดี",
            "é",
            "e\u0301",
            "½",
            "…",
            "ﷺ",
            "👩‍🚀",
            "🙂",
            " ",
            "  ",
            "\n",
            "\t",
            "\u00a0",
        ]
    ),
    max_size=12,
).map("".join)


@every_kind
@settings(max_examples=25)
@given(text=TEXTS, pair=st.none() | TEXTS)
def test_words_cover_the_scored_characters_once_and_keep_every_score(kind: str, text: str, pair: str | None) -> None:
    if not text.strip() and not (pair or "").strip():
        text += "a"
    encoded = encoder(kind).encode([text], [pair])[0]
    found = scored(encoded).words()
    assert sum(word.score for word in found) == sum(scored(encoded).scores)
    for segment, source in enumerate([text] if pair is None else [text, pair]):
        own = [word for word in found if word.segment == segment]
        ends = [0, *(word.end for word in own)]
        starts = [*(word.start for word in own), len(source)]
        assert all(end <= start for end, start in zip(ends, starts, strict=True))
        between = [source[end:start] for end, start in zip(ends, starts, strict=True)]
        assert "".join(map("".join, zip(between, [*(word.word for word in own), ""], strict=True))) == source
        if source.strip():  # blanks alone are one word, where the tokenizer makes a token of them
            # A normaliser may leave a combining mark out of every offset.
            assert all(sign.isspace() or unicodedata.combining(sign) for sign in "".join(between))
            assert all(word.word and word.word == word.word.strip() for word in own)
