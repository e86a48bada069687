"""The explanation of one text: tokens, scores, words, and what was explained."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

if TYPE_CHECKING:
    import matplotlib.figure

    import explainer.rendering.views

Aggregation = Literal["sum", "average", "max", "first", "none"]

_AGGREGATE: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "average": lambda scores: sum(scores) / len(scores),
    "max": lambda scores: max(scores, key=abs),
    "first": lambda scores: scores[0],
}


_NO_ENTITIES = (
    "`aggregation` 'simple' joins neighbouring tokens of the same predicted entity, and attributions have no "
    "entities. Take 'sum' for the words' scores, or 'none' for those of the tokens."
)


def check_aggregation(name: str) -> None:
    """Raises `ValueError` when there is no such aggregation."""
    if name == "simple":
        raise ValueError(_NO_ENTITIES)
    if name not in get_args(Aggregation):
        raise ValueError(f"`aggregation` must be one of {', '.join(get_args(Aggregation))}, got {name!r}.")


class Word(NamedTuple):
    """A word of the text: `text[start:end]` (of the second text where `segment` is 1), and its score.

    Under aggregation "none" it is one token, and `word` is the token as the tokenizer writes it.
    """

    word: str
    score: float
    start: int
    end: int
    segment: int = 0


@dataclass(frozen=True)
class Trust:
    """What deleting and keeping a text's highest scored tokens does to the target's probability.

    Attributes:
        comprehensiveness: p(whole text) - p(those tokens deleted): high when they were needed.
        sufficiency: p(whole text) - p(those tokens alone): low when they are enough.
    """

    comprehensiveness: float
    sufficiency: float

    @property
    def faithfulness(self) -> float:
        """Comprehensiveness minus sufficiency: high when the map agrees with the prediction it explains."""
        return self.comprehensiveness - self.sufficiency


@dataclass(frozen=True)
class Explanation:
    """Scores for every token of one text.

    Attributes:
        tokens: the tokenizer's pieces, specials included.
        offsets: (start, end) characters of each token in its text; (0, 0) for added specials.
        scorable: which tokens got a score; the scores of the others are 0.
        scores: higher = more evidence for the target, negative = evidence against it.
        target: index of the explained class; `target_label` is its name.
        probabilities: of every class, on the whole text.
        method: name of the method or of the explainer, and what must be known to read its scores (a fallback, a
            best-of).
        trust: how well the map agrees with the prediction, where that was asked for.
    """

    text: str
    text_pair: str | None
    tokens: list[str]
    input_ids: list[int]
    offsets: list[tuple[int, int]]
    scorable: list[bool]
    words_of_tokens: list[int]
    segments: list[int]
    scores: list[float]
    target: int
    target_label: str
    probabilities: list[float]
    method: str
    trust: Trust | None = None

    def words(self, aggregation: Aggregation = "sum") -> list[Word]:
        """The scored words in the text's order: tokens of one word joined, their scores aggregated.

        Args:
            aggregation: `sum` (the word's share of an additive attribution), or as transformers'
                `aggregation_strategy` names them: `average`, `max` (of the largest magnitude, with its sign),
                `first` (its first token's), `none` (every token by itself).

        Raises:
            ValueError: when it is none of these; transformers' `simple` needs entities.
        """
        check_aggregation(aggregation)
        if aggregation == "none":
            return [self._token(i) for i, scorable in enumerate(self.scorable) if scorable]
        groups: dict[tuple[int, int], list[int]] = {}
        for i, scorable in enumerate(self.scorable):
            if scorable:
                groups.setdefault((self.segments[i], self.words_of_tokens[i]), []).append(i)
        return [self._word(segment, places, aggregation) for (segment, _), places in groups.items()]

    def _token(self, i: int) -> Word:
        return Word(self.tokens[i], self.scores[i], *self.offsets[i], self.segments[i])

    def _word(self, segment: int, places: list[int], aggregation: Aggregation) -> Word:
        start, end = self.offsets[places[0]][0], self.offsets[places[-1]][1]
        text = self.text if segment == 0 else self.text_pair or ""
        return Word(text[start:end], _AGGREGATE[aggregation]([self.scores[i] for i in places]), start, end, segment)

    def record(self) -> dict[str, Any]:
        """The JSON-able record that `explainer attribute` writes, without its id; `trust` where it was asked for."""
        values = asdict(self)
        names = ("tokens", "input_ids", "offsets", "scorable", "scores", "target", "target_label", "probabilities")
        found = {name: values[name] for name in (*names, "method")}
        if self.trust is not None:
            found["trust"] = {**values["trust"], "faithfulness": self.trust.faithfulness}
        return found

    # Looking at it: `explainer.rendering` imports this file, so it is imported when it is asked for

    def view(self, **options: Any) -> "explainer.rendering.views.View":
        """What can be shown anywhere; options as of `explainer.rendering.View`: level, max_words."""
        from explainer.rendering import view

        return view(self, **options)

    def show(self, width: int | None = None, **options: Any) -> None:
        """Print in colour; `width` in columns, options as of `view`."""
        self.view(**options).show(width)

    def to_html(self, path: str | Path, **options: Any) -> None:
        """Write a page that opens offline; options as of `view`."""
        self.view(**options).to_html(path)

    def plot(self, **options: Any) -> "matplotlib.figure.Figure":
        """A matplotlib figure; options as of `view`."""
        return self.view(**options).plot()

    def _repr_html_(self) -> str:
        return self.view()._repr_html_()

    def __rich__(self) -> "explainer.rendering.views.View":
        return self.view()
