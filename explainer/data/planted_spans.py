"""Generated texts whose answer stands in the text, and depends on words elsewhere that are known.

Questions: the facts of a context are of different kinds, and one word of the question says which of them is asked for.
Tags: a name that may be a person's or a place's, tagged by one word far from it; other words leave it untagged, so that
neither tag is what remains without evidence.
"""

import random
from dataclasses import dataclass

from datasets import Dataset

from explainer.data.planted import FACTS, NAMES, Evidence, drawn

_KINDS = dict(zip(("colour", "city", "job", "instrument", "pet"), FACTS[:5], strict=True))
"""The facts by the word that asks for them."""

_VAGUE = ("", "[MASK]")
"""In place of such a word: nothing, or a token that says nothing. The answer is the first name then, so that no kind is
what remains without evidence."""


@dataclass(frozen=True)
class PlantedQuestion:
    """A question and its context.

    Attributes:
        answer: (start, end) characters of the context.
        evidence: the word of the question that says what is asked for.
        vague: whether that word asks for no kind of fact.
    """

    question: str
    context: str
    answer: tuple[int, int]
    evidence: tuple[Evidence, ...]
    vague: bool


def planted_question(draw: random.Random) -> PlantedQuestion:
    """A question for one of two to four facts of different kinds."""
    kinds = draw.sample(list(_KINDS), draw.randint(2, 4))
    asked = draw.choice(kinds) if draw.random() < 0.75 else draw.choice(_VAGUE)
    context, answer = "", (0, 0)
    for kind in kinds:
        context += " " if context else ""
        value, name = draw.choice(_KINDS[kind].words.split()), draw.choice(NAMES)
        answer = answer if context or asked in _KINDS else (0, len(name))
        sentence = _KINDS[kind].sentence.format(n=name, v="{v}")
        if kind == asked:
            start = len(context) + sentence.index("{v}")
            answer = start, start + len(value)
        context += sentence.replace("{v}", value)
    question = draw.choice(("Which {k} does the text name?", "What is the {k} in these facts?", "Find the {k}."))
    at = question.index("{k}")
    return PlantedQuestion(
        question.replace("{k}", asked), context, answer, ((0, at, at + len(asked)),), asked in _VAGUE
    )


_BOTH = """
    Jordan Georgia Sydney Austin Charlotte Florence Lincoln Madison Chelsea Savannah Phoenix Brooklyn Dallas Houston
    Victoria Carolina Chester Kent Troy Adelaide
""".split()  # noqa: SIM905
_SURNAMES = ["Hill", "Wells", "Woods", "Banks", "Rivers", "Lake", "Park"]
_CUES = {
    "PER": ("singer", "nurse", "cousin", "neighbour", "teacher", "actress", "uncle", "poet", "dentist", "sister"),
    "LOC": ("river", "harbour", "bridge", "valley", "suburb", "coastline", "village", "mountain", "island", "airport"),
    "": ("weather", "song", "dream", "storm", "meeting", "promise", "recipe", "game", "picnic", "holiday"),
}
"""The words that decide what a name is: a person, a place or, beside the last ones, nothing that is tagged."""
_WITH_CUE = (
    "everyone had heard about the {cue}",
    "the {cue} was mentioned first",
    "there was a short note about the {cue}",
    "they had talked about the {cue} all morning",
    "the story began with a {cue}",
)
_BETWEEN = (
    "and after a while",
    "but nobody was surprised when",
    "and later the same evening",
    "which is why, two days later,",
    "and in the last paragraph",
)
_WITH_NAME = (
    "someone wrote {name} on the board",
    "{name} came up again",
    "the letter spoke of {name} with great warmth",
    "the old photograph showed {name} in the rain",
    "we finally heard the word {name}",
)


@dataclass(frozen=True)
class PlantedTags:
    """A sentence with one name.

    Attributes:
        entity: (start, end) characters of the name.
        kind: PER, LOC or, where the name is not tagged, empty; the cue decides.
        evidence: the cue.
    """

    text: str
    entity: tuple[int, int]
    kind: str
    evidence: tuple[Evidence, ...]


def planted_tags_text(draw: random.Random) -> PlantedTags:
    """A sentence in which a far word says whether a name is a person's, a place's or none that is tagged."""
    kind = draw.choice(list(_CUES))
    cue, name = draw.choice(_CUES[kind]), draw.choice(_BOTH)
    name += f" {draw.choice(_SURNAMES)}" if draw.random() < 0.3 else ""
    parts = [draw.choice(_WITH_CUE), draw.choice(_BETWEEN), draw.choice(_WITH_NAME)]
    if draw.random() < 0.5:
        parts.reverse()
    form = " ".join(parts)
    text = (form[0].upper() + form[1:] if not form.startswith("{") else form) + "."
    text = text.replace("{cue}", cue) if text.index("{cue}") < text.index("{name}") else text.replace("{name}", name)
    text = text.replace("{cue}", cue).replace("{name}", name)
    at, cue_at = text.index(name), text.index(f" {cue}") + 1
    return PlantedTags(text, (at, at + len(name)), kind, ((0, cue_at, cue_at + len(cue)),))


def planted_questions(n: int, seed: int) -> Dataset:
    """`n` questions as a data set: columns text, text_pair and label, the answer's [start, end] in the text_pair."""
    made = drawn(planted_question, n, seed)
    return Dataset.from_dict(
        {
            "text": [one.question for one in made],
            "text_pair": [one.context for one in made],
            "label": [list(one.answer) for one in made],
        }
    )


def planted_tags(n: int, seed: int) -> Dataset:
    """`n` sentences as a data set: columns text and label, the entities, each with `start`, `end` and `label`."""
    made = drawn(planted_tags_text, n, seed)
    labels = [[{"start": one.entity[0], "end": one.entity[1], "label": one.kind}] if one.kind else [] for one in made]
    return Dataset.from_dict({"text": [one.text for one in made], "label": labels})
