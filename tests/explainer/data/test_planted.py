"""Generated prompts: the evidence is in the text, the answer follows from it, and a seed gives the same prompts."""

import random
import re

import pytest

from explainer.data import planted
from explainer.data.catalog import CATALOG, SPLITS, load
from explainer.data.planted import PlantedPrompt, asked_of_review, planted_facts, planted_prompt


def prompts(n: int = 300, seed: int = 0) -> list[PlantedPrompt]:
    draw = random.Random(seed)
    return [planted_prompt(draw) for _ in range(n)]


def sentences(prompt: PlantedPrompt) -> list[str]:
    return re.split(r"(?<=[.]) ", prompt.text.split("\n\n")[0])


def test_a_seed_gives_the_same_prompts() -> None:
    assert planted_facts(20, 3)[:] == planted_facts(20, 3)[:]
    assert planted_facts(20, 3)["text"] != planted_facts(20, 4)["text"]
    assert planted_facts(5, 0)["text"] == [one.text for one in prompts(5)]
    assert planted_facts(5, 0)["label"] == [one.answer for one in prompts(5)]


def test_the_evidence_stands_in_the_text_once_and_the_answer_follows_from_it() -> None:
    for one in prompts():
        assert all(sentences(one).count(sentence) == 1 for sentence in one.evidence)
        assert one.answer in " ".join(one.evidence)


def test_a_question_needs_one_fact_a_chain_of_two_or_all_facts_of_a_person() -> None:
    kinds = set()
    for one in prompts():
        question = one.text.split("\n\n")[1]
        if "close friend" in question:
            link = next(sentence for sentence in one.evidence if "close friend" in sentence)
            asked, friend = re.fullmatch(r"(\w+) is a close friend of (\w+)\.", link).groups()  # type: ignore[union-attr]
            assert f"{asked}'s close friend" in question
            assert friend not in question
            assert sum(sentence.startswith(f"{friend} ") for sentence in one.evidence) == 1 == len(one.evidence) - 1
            kinds.add("chain")
        elif "about" in question:
            name = one.evidence[0].split()[0]
            about = {sentence for sentence in sentences(one) if sentence.startswith(f"{name} ")}
            assert name in question
            assert about == set(one.evidence)
            kinds.add("person")
        else:
            assert len(one.evidence) == 1
            assert one.evidence[0].split()[0] in question
            kinds.add("fact")
    assert kinds == {"chain", "person", "fact"}


def test_no_two_sentences_answer_one_question_differently() -> None:
    starts = [fact.sentence.split("{v}")[0] for fact in planted.FACTS]
    for one in prompts():
        asked = {name.split()[0] for name in one.evidence}
        for start in (start.format(n=name) for start in starts for name in asked):
            assert len({sentence for sentence in sentences(one) if sentence.startswith(start)}) <= 1


@pytest.mark.parametrize(("shortest", "longest"), [(4, 32), (2, 5)])
def test_prompts_have_the_lengths_that_are_asked_for(shortest: int, longest: int) -> None:
    draw = random.Random(0)
    counts = [len(sentences(planted_prompt(draw, shortest, longest))) for _ in range(300)]
    assert min(counts) == shortest
    assert longest <= max(counts) <= longest + 1  # a chain adds its link
    assert counts.count(shortest) + counts.count(shortest + 1) > counts.count(longest) + counts.count(longest - 1)


def test_the_splits_are_disjoint() -> None:
    splits = load("planted_facts")
    texts = {split: set(data["text"]) for split, data in splits.items()}
    assert {split: len(data) for split, data in splits.items()} == CATALOG["planted_facts"].sizes
    assert all(len(texts[split]) == len(splits[split]) for split in SPLITS)
    assert len(set.union(*texts.values())) == sum(map(len, texts.values()))


@pytest.mark.parametrize(
    ("review", "shown"),
    [
        ("Good film. " + "word " * 300, "Good film."),
        ("word " * 249 + "end. Later.", "word " * 249 + "end."),
        ("word " * 250 + "end.", "word " * 249 + "word"),
        ("A short one!<br /><br />Well made.", "A short one! Well made."),
    ],
    ids=["first sentence", "at the limit", "no end of a sentence", "short"],
)
def test_a_review_is_cut_at_the_end_of_a_sentence(review: str, shown: str) -> None:
    assert asked_of_review(review, 4) == f"{shown}\n\nWhat is the film about?"


def test_reviews_are_asked_in_turn() -> None:
    assert len({asked_of_review("Fine.", i) for i in range(6)}) == 6
    assert asked_of_review("Fine.", 7) == asked_of_review("Fine.", 1)
