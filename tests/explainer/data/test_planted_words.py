"""Pairs and instructions whose label hangs on single words: the evidence is there, and decides the label."""

import random
import re

from explainer.data.catalog import load
from explainer.data.planted import FACTS, drawn
from explainer.data.planted_words import (
    COLOURS,
    VOCABULARY,
    claimable,
    planted_colour,
    planted_colours,
    planted_instruction,
    planted_instructions,
    planted_pair,
    planted_pairs,
)

WORDS = {word: i for i, fact in enumerate(FACTS) for word in fact.words.split()}


def test_a_pair_s_label_is_whether_its_two_words_are_the_same() -> None:
    pairs = drawn(planted_pair, 300, 0)
    assert 0.4 < sum(one.label == "entailment" for one in pairs) / 300 < 0.6
    for one in pairs:
        (_, start, end), (segment, first, last) = one.evidence
        mine, claimed = one.text[start:end], one.text_pair[first:last]
        assert segment == 1
        assert WORDS[mine] == WORDS[claimed]
        assert (mine == claimed) == (one.label == "entailment")
        kinds = [WORDS[word] for word in re.findall(r"\w+", one.text) if word in WORDS]
        assert kinds.count(WORDS[mine]) == 1  # no other word of the text is of that kind


def test_an_instruction_s_answer_is_the_one_word_of_its_kind() -> None:
    for one in drawn(planted_instruction, 300, 0):
        ((_, start, end),) = one.evidence
        assert one.text[start:end] == one.answer
        assert one.text.endswith("?")
        kinds = [WORDS[word] for word in re.findall(r"\w+", one.text) if word in WORDS]
        assert kinds.count(WORDS[one.answer]) == 1
        assert len(kinds) == len(set(kinds)) >= 2


def test_a_text_names_one_colour() -> None:
    for one in drawn(planted_colour, 100, 0):
        ((segment, start, end),) = one.evidence
        assert segment == 0
        assert one.text[start:end] == one.colour
        assert one.colour in claimable(COLOURS)
        assert sum(word in COLOURS.words.split() for word in re.findall(r"\w+", one.text)) == 1
    assert planted_colours(5, 1)["label"] == [one.colour for one in drawn(planted_colour, 5, 1)]


def test_the_vocabulary_has_every_word() -> None:
    known = {word for text in VOCABULARY for word in re.findall(r"\w+", text)}
    pairs, instructions = drawn(planted_pair, 200, 1), drawn(planted_instruction, 200, 1)
    for text in (*(one.text + one.text_pair for one in pairs), *(one.text for one in instructions)):
        assert set(re.findall(r"\w+", text.replace(".", " "))) <= known


def test_the_catalog_has_them_by_seed() -> None:
    draw = random.Random(2)
    assert load("planted_pairs")["test"][0]["text"] == planted_pair(draw).text
    assert planted_pairs(5, 1)[:] == planted_pairs(5, 1)[:]
    assert planted_instructions(5, 1)["label"] == [one.answer for one in drawn(planted_instruction, 5, 1)]
