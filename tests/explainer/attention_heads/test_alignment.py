"""Words find their word pieces by characters, whatever the tokenizer does."""

import pytest

from explainer.attention_heads import Arc, Parse, Word, arcs
from explainer.attention_heads.alignment import tokens_of
from tests.families import FAMILIES, explained

TEXT = "dullness bores, really"  # dull ##ness-like pieces: several tokens a word
WORDS = (Word(0, 8, 1, "nsubj"), Word(9, 14, None, "root"), Word(14, 15, 1, "punct"), Word(16, 22, 1, "advmod"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_word_s_tokens_are_its_characters_and_no_special_token(family: str) -> None:
    model = explained(family)
    (text,) = model.encode([TEXT])
    tokens = model.tokenizer.convert_ids_to_tokens(text.tokens.input_ids.tolist())
    for word in WORDS:
        pieces = [tokens[i].removeprefix("##").lstrip("▁Ġ") for i in tokens_of(text, word.start, word.end)]
        assert "".join(pieces) == TEXT[word.start : word.end]


def test_an_arc_goes_from_the_dependent_s_first_token_to_all_tokens_of_its_head() -> None:
    (text,) = explained("bert").encode([TEXT])
    head = tokens_of(text, 9, 14)
    assert len(head) > 1
    assert arcs(text, Parse(TEXT, WORDS), ("advmod", "nsubj")) == [
        Arc(1, tokens_of(text, 0, 8)[0], head, 1),
        Arc(0, tokens_of(text, 16, 22)[0], head, -2),
    ]


def test_roots_and_words_that_a_cut_text_lost_have_no_arc() -> None:
    (text,) = explained("bert").encode(["dullness"])
    assert arcs(text, Parse(TEXT, WORDS), ("nsubj", "advmod", "root")) == []
