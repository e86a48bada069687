"""Generated questions and tagged sentences: answers, entities and evidence are where they are said to be."""

import random

import pytest

from explainer.data.catalog import GENERATED, load
from explainer.data.planted_spans import planted_question, planted_questions, planted_tags, planted_tags_text


def test_one_word_of_the_question_decides_the_answer() -> None:
    draw, answers = random.Random(0), dict[str, set[str]]()
    for _ in range(200):
        one = planted_question(draw)
        ((segment, start, end),) = one.evidence
        kind, answer = one.question[start:end], one.context[slice(*one.answer)]
        assert segment == 0
        assert answer.isalpha()
        assert 2 <= one.context.count(".") <= 4
        if one.vague:
            assert one.answer[0] == 0
            continue
        answers.setdefault(kind, set()).add(answer)
    assert len(answers) == 5
    every = [answer for known in answers.values() for answer in known]
    assert len(every) == len(set(every))  # no answer is one of two kinds


def test_a_far_word_decides_the_tag() -> None:
    draw, kinds = random.Random(0), {}
    for _ in range(100):
        one = planted_tags_text(draw)
        ((segment, start, end),) = one.evidence
        cue, name = one.text[start:end], one.text[slice(*one.entity)]
        assert segment == 0
        assert name.istitle()
        assert one.text.count(cue) == 1
        assert kinds.setdefault(cue, one.kind) == one.kind
        between = one.text[min(end, one.entity[1]) : max(start, one.entity[0])]
        assert len(between.split()) >= 4
    assert set(kinds.values()) == {"PER", "LOC", ""}


def test_data_sets_are_drawn_by_a_seed() -> None:
    assert planted_questions(3, 1)[:] == planted_questions(3, 1)[:] != planted_questions(3, 2)[:]
    tags = planted_tags(20, 0)
    assert {entity["label"] for row in tags for entity in row["label"]} == {"PER", "LOC"}
    assert any(not row["label"] for row in tags)


@pytest.mark.parametrize("name", ["planted_questions", "planted_tags"])
def test_the_catalog_has_them(name: str) -> None:
    splits = load(name)
    assert name in GENERATED
    assert [len(splits[split]) for split in ("validation", "test")] == [200, 400]
    assert splits["train"]["text"][:5] != splits["test"]["text"][:5]
