"""Generated prompts for language models: facts about made-up people, and a question about some of them.

A prompt is one message: facts in sentences, an empty line, a question. Which sentences hold the evidence is known, so
that explanations can be compared with it. The number of facts varies, so that prompts differ in length; a question
needs one fact, a chain of two, or all facts about one person.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from datasets import Dataset

Made = TypeVar("Made")
Evidence = tuple[int, int, int]
"""The text (0, or 1 for the second one), and (start, end) characters of it."""

NAMES = tuple(
    """
    Anna Ben Clara Dan Emma Frank Grace Henry Ida Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tina Victor Wendy Yusuf Zoe
    Amir Bella Carlos Diana Elias Fatima George Hana Ivan Julia Kofi Lena Marco Nadia Oscar Priya Ravi
    """.split()  # noqa: SIM905 - names
)


@dataclass(frozen=True)
class Fact:
    """A kind of fact: its sentence, the question that it answers, and the words that can stand in it."""

    sentence: str
    question: str
    words: str


FACTS = (
    Fact("{n} drives a {v} car.", "What colour is {n}'s car?", "red blue green white black yellow"),
    Fact("{n} lives in {v}.", "Where does {n} live?", "Oslo Paris Madrid Berlin Rome Vienna Lisbon"),
    Fact("{n} works as a {v}.", "What is {n}'s job?", "baker nurse pilot farmer lawyer painter teacher"),
    Fact("{n} plays the {v}.", "Which instrument does {n} play?", "violin piano flute guitar cello"),
    Fact("{n} has a {v} as a pet.", "What pet does {n} have?", "dog cat rabbit parrot hamster turtle"),
    Fact("{n} was born in {v}.", "In which month was {n} born?", "January March May July October"),
    Fact("{n} likes to eat {v}.", "What does {n} like to eat?", "pasta rice soup apples cheese fish"),
    Fact("{n} is learning {v}.", "Which language is {n} learning?", "Spanish Greek Japanese Polish"),
    Fact("{n} is afraid of {v}.", "What is {n} afraid of?", "spiders heights thunder snakes ghosts"),
    Fact("{n} spent the summer in {v}.", "Where did {n} spend the summer?", "Norway Peru Kenya Japan"),
)

FILLERS = (
    "The weather was mild that week.",
    "The library opens at nine in the morning.",
    "A new bakery opened at the corner.",
    "The train to the coast was late again.",
    "Most of the shops were closed on Sunday.",
    "The old bridge will be repaired next year.",
    "Nobody remembered who had left the door open.",
    "The meeting was moved to the next day.",
    "There was a small market near the river.",
    "The garden looked better after the rain.",
)

_LEADS = ("", "", "Read the text and answer. ", "Answer in one sentence. ", "Use only the text above. ")


@dataclass(frozen=True)
class PlantedPrompt:
    """One prompt and what is known of it.

    Attributes:
        text: the message.
        answer: the answer that the facts give.
        evidence: the sentences that it follows from.
    """

    text: str
    answer: str
    evidence: tuple[str, ...]


def planted_prompt(draw: random.Random, shortest: int = 4, longest: int = 32) -> PlantedPrompt:
    """A prompt of `shortest` to `longest` sentences before the question; short ones are as frequent as long ones."""
    n = round(shortest * (longest / shortest) ** draw.random())
    people = draw.sample(NAMES, max(3, n // 2))
    known: dict[tuple[str, int], str] = {}
    sentences: list[str] = []
    while len(sentences) < n:
        if draw.random() < 0.15:
            sentences.append(draw.choice(FILLERS))
            continue
        name, kind = draw.choice(people), draw.randrange(len(FACTS))
        if (name, kind) not in known:
            known[name, kind] = draw.choice(FACTS[kind].words.split())
            sentences.append(FACTS[kind].sentence.format(n=name, v=known[name, kind]))
    name, kind = draw.choice(list(known) or [(people[0], 0)])
    if not known:  # fillers alone
        known[name, kind] = FACTS[kind].words.split()[0]
        sentences[0] = FACTS[kind].sentence.format(n=name, v=known[name, kind])
    fact, value = FACTS[kind], known[name, kind]
    evidence = [fact.sentence.format(n=name, v=value)]
    way = draw.random()
    if way < 0.25:  # two hops: the question names a friend of the one whom the fact is about
        friend = draw.choice([one for one in NAMES if one not in people])
        link = f"{friend} is a close friend of {name}."
        sentences.insert(draw.randrange(len(sentences) + 1), link)
        question = fact.question.replace("{n}", f"{friend}'s close friend")
        evidence.append(link)
    elif way < 0.45:  # all facts about one person
        evidence = [FACTS[k].sentence.format(n=one, v=v) for (one, k), v in known.items() if one == name]
        value, question = " ".join(evidence), draw.choice(("What do we know about {n}?", "Tell me about {n}."))
    else:
        question = fact.question
    draw.shuffle(sentences)
    text = f"{' '.join(sentences)}\n\n{draw.choice(_LEADS)}{question.format(n=name)}"
    return PlantedPrompt(text, value, tuple(evidence))


def planted_facts(n: int, seed: int) -> Dataset:
    """`n` prompts as a data set: columns text and label (the answer)."""
    prompts = drawn(planted_prompt, n, seed)
    return Dataset.from_dict({"text": [one.text for one in prompts], "label": [one.answer for one in prompts]})


def drawn(make: Callable[[random.Random], Made], n: int, seed: int) -> list[Made]:
    """`n` of them, as the data set of that seed has them."""
    draw = random.Random(seed)
    return [make(draw) for _ in range(n)]


_ASKED = (
    "Summarize this review in one sentence.",
    "Does the reviewer recommend the film? Explain in one sentence.",
    "What does the reviewer like or dislike most?",
    "What does the reviewer say about the acting?",
    "What is the film about?",
    "Give this review a short title.",
)


def asked_of_review(review: str, number: int) -> str:
    """A prompt: a review, cut after about 250 words at the end of a sentence, and a question about it."""
    words = review.replace("<br /><br />", " ").replace("<br />", " ").split()
    cut = next((i + 1 for i in range(min(250, len(words)) - 1, 0, -1) if words[i][-1] in ".!?"), min(250, len(words)))
    return f"{' '.join(words[:cut])}\n\n{_ASKED[number % len(_ASKED)]}"
