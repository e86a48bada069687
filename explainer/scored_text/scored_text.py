"""A text with a score per token, and its words and other units with the sums of their tokens' scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from explainer.scored_text.units import Units, unit_numbers, unit_ranges, visible_span

Aggregation = Literal["sum", "average", "max", "first", "none"]

_AGGREGATE: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "average": lambda scores: sum(scores) / len(scores),
    "max": lambda scores: max(scores, key=abs),
    "first": lambda scores: scores[0],
}


def check_aggregation(name: str) -> None:
    """Check the name of an aggregation.

    Raises:
        ValueError: when there is no such aggregation.
    """
    if name == "simple":
        raise ValueError(
            "`aggregation` 'simple' joins neighbouring tokens of the same predicted entity, and attributions have no "
            "entities. Take 'sum' for the words' scores, or 'none' for those of the tokens."
        )
    if name not in get_args(Aggregation):
        raise ValueError(f"`aggregation` must be one of {', '.join(get_args(Aggregation))}, got {name!r}.")


class Word(NamedTuple):
    """A stretch of the text, `text[start:end]` (of the second text where `segment` is 1), and its score.

    Under aggregation "none" it is one token, and `word` is the token as the tokenizer writes it.
    """

    word: str
    score: float
    start: int
    end: int
    segment: int = 0


@dataclass(frozen=True)
class Caption:
    """The words above a scored text, ready to be shown.

    Attributes:
        target: the name of what the scores are evidence for, such as "positive".
        headline: the target and its number, such as "positive 91.3%".
        method: the name of what gave the scores.
        remarks: further facts, in their order.
        kind: one word for targets of several names.
    """

    target: str = ""
    headline: str = ""
    method: str = ""
    remarks: tuple[str, ...] = ()
    kind: str = "target"


@dataclass(frozen=True, kw_only=True)
class ScoredText:
    """One text (or a pair) and a score for each of its tokens.

    Attributes:
        tokens: the tokenizer's pieces, specials included.
        offsets: (start, end) characters of each token in its text; (0, 0) for added specials.
        scorable: which tokens got a score; the scores of the others are 0.
        words_of_tokens: the number of the word that each token belongs to (`word_numbers`), -1 for specials.
        segments: 1 for the tokens of `text_pair`, else 0.
        scores: higher = more evidence for the target, negative = evidence against it.
        units_of_tokens: the number of the unit that each token was scored with, None where each was scored alone.
    """

    text: str
    text_pair: str | None
    tokens: list[str]
    offsets: list[tuple[int, int]]
    scorable: list[bool]
    words_of_tokens: list[int]
    segments: list[int]
    scores: list[float]
    units_of_tokens: list[int] | None = None

    @property
    def caption(self) -> Caption:
        """The words above the text when it is shown; none here."""
        return Caption()

    @property
    def texts(self) -> list[str]:
        """The text, and the second one of a pair."""
        return [self.text] if self.text_pair is None else [self.text, self.text_pair]

    def words(self, aggregation: Aggregation = "sum") -> list[Word]:
        """The scored words in the text's order: tokens of one word joined, their scores aggregated.

        A word has no white space at its ends, whichever token carries it.

        Args:
            aggregation: `sum` (the word's share of an additive attribution), or as transformers'
                `aggregation_strategy` names them: `average`, `max` (of the largest magnitude, with its sign),
                `first` (its first token's), `none` (every token by itself).

        Raises:
            ValueError: when it is none of these; transformers' `simple` needs entities.
        """
        check_aggregation(aggregation)
        if aggregation == "none":
            return [
                Word(self.tokens[i], self.scores[i], *self.offsets[i], self.segments[i])
                for i, scorable in enumerate(self.scorable)
                if scorable
            ]
        return [
            self._stretch(
                segment, *self._span(segment, places), _AGGREGATE[aggregation]([self.scores[i] for i in places])
            )
            for (segment, _), places in self._groups(self.words_of_tokens).items()
        ]

    def units(self, units: Units | None = None) -> list[Word]:
        """The units in the text's order, each with the sum of its tokens' scores.

        Words, sentences and paragraphs without a scored token are left out. Given character ranges come back one by
        one in their order, with the score 0 where no token lies in them. Tokens outside all ranges are in no unit.

        Args:
            units: `word`, `sentence`, `paragraph`, or character ranges (start, end) of the text; (start, end, 1) is a
                range of the second text. None: the units that the text was scored in.

        Raises:
            ValueError: when it is none of these, or None and the text was scored token by token.
        """
        if units == "word":
            return self.words()
        if units is None:
            return self._scored_units()
        ranges = unit_ranges(self.text, self.text_pair, units)
        numbers = unit_numbers(self.text, self.offsets, self.scorable, self.segments, units, text_pair=self.text_pair)
        scores: dict[int, list[float]] = {} if isinstance(units, str) else {n: [] for n in range(len(ranges))}
        for number, score in zip(numbers, self.scores, strict=True):
            if number >= 0:
                scores.setdefault(number, []).append(score)
        stretches = []
        for number in sorted(scores):
            segment, start, end = ranges[number]
            if isinstance(units, str):  # a sentence without the white space after it
                start, end = visible_span(self.texts[segment], start, end)
            stretches.append(self._stretch(segment, start, end, sum(scores[number], 0.0)))
        return stretches

    def _scored_units(self) -> list[Word]:
        if self.units_of_tokens is None:
            raise ValueError("`units` must name the units: this text was scored token by token.")
        groups = {
            (segment, number): places
            for (segment, number), places in self._groups(self.units_of_tokens).items()
            if number >= 0
        }
        return [
            self._stretch(segment, *self._span(segment, places), sum(self.scores[i] for i in places))
            for (segment, _), places in groups.items()
        ]

    def _groups(self, numbers: list[int]) -> dict[tuple[int, int], list[int]]:
        """The places of the scored tokens that share a segment and a number."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i, scorable in enumerate(self.scorable):
            if scorable:
                groups.setdefault((self.segments[i], numbers[i]), []).append(i)
        return groups

    def _span(self, segment: int, places: list[int]) -> tuple[int, int]:
        """The characters of some tokens, without the white space that they begin or end with."""
        start, end = min(self.offsets[i][0] for i in places), max(self.offsets[i][1] for i in places)
        return visible_span(self.texts[segment], start, end)

    def _stretch(self, segment: int, start: int, end: int, score: float) -> Word:
        text = self.text if segment == 0 else self.text_pair or ""
        return Word(text[start:end], score, start, end, segment)
