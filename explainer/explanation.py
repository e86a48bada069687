"""The explanation of one text: tokens, scores, words, and what was explained."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import matplotlib.figure

    import explainer.rendering.views

Aggregation = Literal["sum", "average", "max", "first"]

_AGGREGATE: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "average": lambda scores: sum(scores) / len(scores),
    "max": lambda scores: max(scores, key=abs),
    "first": lambda scores: scores[0],
}


class Word(NamedTuple):
    """A word of the text: `text[start:end]` (of the second text where `segment` is 1), and its score."""

    word: str
    score: float
    start: int
    end: int
    segment: int = 0


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
        method: name of the method or of the explainer.
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

    def words(self, aggregation: Aggregation = "sum") -> list[Word]:
        """The scored words in the text's order: tokens of one word joined, their scores aggregated.

        Args:
            aggregation: `sum` (the word's share of an additive attribution), `average`, `max` (of the largest
                magnitude) or `first` (its first token's).
        """
        if aggregation not in _AGGREGATE:
            raise ValueError(f"`aggregation` must be one of {', '.join(_AGGREGATE)}, got {aggregation!r}.")
        groups: dict[tuple[int, int], list[int]] = {}
        for i, scorable in enumerate(self.scorable):
            if scorable:
                groups.setdefault((self.segments[i], self.words_of_tokens[i]), []).append(i)
        return [self._word(segment, places, aggregation) for (segment, _), places in groups.items()]

    def _word(self, segment: int, places: list[int], aggregation: Aggregation) -> Word:
        start, end = self.offsets[places[0]][0], self.offsets[places[-1]][1]
        text = self.text if segment == 0 else self.text_pair or ""
        return Word(text[start:end], _AGGREGATE[aggregation]([self.scores[i] for i in places]), start, end, segment)

    def record(self) -> dict[str, Any]:
        """The JSON-able record that `explainer attribute` writes, without its id."""
        values = asdict(self)
        names = ("tokens", "input_ids", "offsets", "scorable", "scores", "target", "target_label", "probabilities")
        return {name: values[name] for name in (*names, "method")}

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
