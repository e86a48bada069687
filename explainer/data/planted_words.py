"""Generated texts whose label hangs on single words that are known: pairs, texts with a colour, and instructions for
language models.

Every fact of a text is of another kind, about another person, so that one word of it decides the answer.
"""

import random
from dataclasses import dataclass

from datasets import Dataset

from explainer.data.planted import FACTS, FILLERS, NAMES, Evidence, Fact, drawn

SOMEBODY = "Somebody"
"""The subject of a second text, which claims a fact of the first one."""

VOCABULARY = (
    SOMEBODY,
    *NAMES,
    *FILLERS,
    *(part.format(n="", v="") for fact in FACTS for part in (fact.sentence, fact.question)),
    *(fact.words for fact in FACTS),
)
"""Texts that hold every word of these data sets."""

COLOURS = FACTS[0]

ASKED = FACTS[:4]
"""The kinds of these facts."""


def claimable(kind: Fact) -> list[str]:
    """The words of a kind of fact that pairs have: few, so that a small model learns soon which are the same."""
    return kind.words.split()[:3]


@dataclass(frozen=True)
class PlantedPair:
    """A text, and a second one that claims one of its facts, or the same of another word.

    Attributes:
        label: entailment or contradiction.
        evidence: the word of the fact in either text; together they decide the label.
    """

    text: str
    text_pair: str
    label: str
    evidence: tuple[Evidence, Evidence]


@dataclass(frozen=True)
class PlantedColour:
    """A text that names the colour of a car, beside other facts.

    Attributes:
        evidence: the colour in the text.
    """

    text: str
    colour: str
    evidence: tuple[Evidence]


@dataclass(frozen=True)
class PlantedInstruction:
    """Facts about several people, and a question about one of them.

    Attributes:
        text: the facts, and the question at its end.
        question: the question; the answer hangs on it too.
        answer: one word.
        evidence: that word in the facts.
    """

    text: str
    question: str
    answer: str
    evidence: tuple[Evidence]


def planted_pair(draw: random.Random) -> PlantedPair:
    """Two or three facts, and a claim about one of them: true or false with equal probability."""
    kinds = draw.sample(ASKED, draw.randint(2, 3))
    values = [draw.choice(claimable(kind)) for kind in kinds]
    asked = draw.randrange(len(kinds))
    claimed, label = values[asked], "entailment"
    if draw.random() < 0.5:
        claimed = draw.choice([word for word in claimable(kinds[asked]) if word != values[asked]])
        label = "contradiction"
    facts = [(kind.sentence, value) for kind, value in zip(kinds, values, strict=True)]
    text, (start, end) = _written(draw, facts, asked, fillers=0)
    form = kinds[asked].sentence.replace("{n}", SOMEBODY)
    at = form.index("{v}")
    return PlantedPair(text, form.replace("{v}", claimed), label, ((0, start, end), (1, at, at + len(claimed))))


def planted_colour(draw: random.Random) -> PlantedColour:
    """The first text of a pair, the next one that names a colour."""
    before, after = COLOURS.sentence.format(n="", v="|").split("|")
    while True:
        text = planted_pair(draw).text
        if before in text:
            start = text.index(before) + len(before)
            colour = text[start : text.index(after, start)]
            return PlantedColour(text, colour, ((0, start, start + len(colour)),))


def planted_instruction(draw: random.Random) -> PlantedInstruction:
    """Two to four facts, and a question about one of them."""
    kinds = draw.sample(ASKED, draw.randint(2, 4))
    values = [draw.choice(kind.words.split()) for kind in kinds]
    asked = draw.randrange(len(kinds))
    names: dict[int, str] = {}
    facts = [(kind.sentence, value) for kind, value in zip(kinds, values, strict=True)]
    text, (start, end) = _written(draw, facts, asked, names)
    question = kinds[asked].question.format(n=names[asked])
    return PlantedInstruction(f"{text} {question}", question, values[asked], ((0, start, end),))


def _written(
    draw: random.Random,
    facts: list[tuple[str, str]],
    asked: int,
    names: dict[int, str] | None = None,
    fillers: int = 2,
) -> tuple[str, tuple[int, int]]:
    """The facts in any order with fillers between, and the characters of the asked one's word.

    Args:
        facts: sentences with the places {n} and {v}, and the word of each.
        names: gets the person of each fact.
        fillers: sentences that say nothing, at most.
    """
    people = draw.sample(NAMES, len(facts))
    if names is not None:
        names.update(enumerate(people))
    order: list[int | str] = [*range(len(facts)), *draw.sample(FILLERS, draw.randint(0, fillers))]
    draw.shuffle(order)
    text, place = "", (0, 0)
    for one in order:
        text += " " if text else ""
        if isinstance(one, str):
            text += one
            continue
        before, after = facts[one][0].replace("{n}", people[one]).split("{v}")
        if one == asked:
            place = len(text) + len(before), len(text) + len(before) + len(facts[one][1])
        text += before + facts[one][1] + after
    return text, place


def planted_pairs(n: int, seed: int) -> Dataset:
    """`n` pairs as a data set: columns text, text_pair and label."""
    made = drawn(planted_pair, n, seed)
    columns = ("text", "text_pair", "label")
    return Dataset.from_dict({name: [getattr(one, name) for one in made] for name in columns})


def planted_colours(n: int, seed: int) -> Dataset:
    """`n` texts as a data set: columns text and label (the colour)."""
    made = drawn(planted_colour, n, seed)
    return Dataset.from_dict({"text": [one.text for one in made], "label": [one.colour for one in made]})


def planted_instructions(n: int, seed: int) -> Dataset:
    """`n` instructions as a data set: columns text and label (the answer)."""
    made = drawn(planted_instruction, n, seed)
    return Dataset.from_dict({"text": [one.text for one in made], "label": [one.answer for one in made]})
