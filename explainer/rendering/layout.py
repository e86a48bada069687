"""The layout of scored texts: their pieces in columns, the scale of the colours, and the headings above them.

HTML, terminals and figures draw a layout, so that they all show the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from rich.cells import cell_len

from explainer.rendering.colour import strengths
from explainer.rendering.columns import Column, columns, folded
from explainer.rendering.pieces import Level, Piece, pieces
from explainer.scored_text import ScoredText

MAX_WORDS = 100


class Heading(NamedTuple):
    """A line above the text: the label of the scores (empty where none is needed), the headline and further facts."""

    label: str
    headline: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Layout:
    """Scores of one text, by one or several methods or for several targets, and how to lay them out.

    Attributes:
        scored: the text with its scores, by label; several are shown below each other, word below equal word.
        level: `word` or `token`.
        max_words: a longer text is folded to windows around its strongest words; None shows all of it.
        shared: whether full colour is the largest |score| of all (they must be of one unit), or of each by itself. By
            default shared between targets of one method, not between methods.

    Raises:
        ValueError: when the scores are not of one text.
    """

    scored: Mapping[str, ScoredText]
    level: Level = "word"
    max_words: int | None = MAX_WORDS
    shared: bool | None = None

    def __post_init__(self) -> None:
        texts = {(one.text, one.text_pair) for one in self.scored.values()}
        if len(texts) != 1:
            raise ValueError(f"`explanations` must be of one text, got {len(texts)} texts.")

    @property
    def first(self) -> ScoredText:
        return next(iter(self.scored.values()))

    @property
    def is_single(self) -> bool:
        """Whether there are scores of one label only, shown as running text."""
        return len(self.scored) == 1

    # The text

    def texts(self, fold: bool = True, widest: int | None = None) -> list[list[Column]]:
        """The columns of the text, and those of the second one of a pair.

        Args:
            fold: to windows, where the text is long.
            widest: cells of a terminal after which a piece is cut.
        """
        texts = [
            columns([self._shaded(label, number, widest) for label in self.scored])
            for number in range(len(self.first.texts))
        ]
        return folded(texts, self.max_words if fold else None)

    @cached_property
    def _pieces(self) -> dict[str, list[list[Piece]]]:
        return {label: pieces(one, self.level) for label, one in self.scored.items()}

    def _shaded(self, label: str, number: int, widest: int | None) -> list[Piece]:
        """The pieces of one text with their strengths."""
        unshaded = self._pieces[label][number]
        shades = strengths([piece.score or 0.0 for piece in unshaded], self.largest[label])
        shaded = [replace(piece, strength=shade) for piece, shade in zip(unshaded, shades, strict=True)]
        return shaded if widest is None else [part for piece in shaded for part in cut(piece, widest)]

    # The scale

    @property
    def is_shared(self) -> bool:
        if self.shared is None:
            return len({one.caption.method for one in self.scored.values()}) == 1
        return self.shared

    @cached_property
    def largest(self) -> dict[str, float]:
        """The |score| of full colour, by label."""
        own = {
            label: max((abs(piece.score or 0.0) for text in texts for piece in text), default=0.0)
            for label, texts in self._pieces.items()
        }
        return dict.fromkeys(own, max(own.values())) if self.is_shared else own

    @property
    def full(self) -> str:
        """The |score| of full colour as text; with labels where they differ."""
        values = {label: f"{value:.3g}" for label, value in self.largest.items()}
        if self.is_single or self.is_shared:
            return next(iter(values.values()))
        return ", ".join(f"{label} {value}" for label, value in values.items())

    @property
    def scale(self) -> str:
        """The meaning of full colour."""
        if not any(self.largest.values()):
            return f"no {self.level} has a score other than zero"
        if self.is_single:
            return f"full colour: |score| {self.full}, this text's largest {self.level}; none at zero"
        if self.is_shared:
            return f"full colour: |score| {self.full}, the largest {self.level} of all {len(self.scored)}; none at zero"
        return f"full colour: the largest |score| of each ({self.full}); none at zero"

    # The words around it

    @property
    def headings(self) -> list[Heading]:
        """One heading per label, or a single one where all say the same.

        A label that is the target's own name is left out, because the headline begins with it. The method is a fact
        where the label does not name it.
        """
        headings = []
        for label, one in self.scored.items():
            caption = one.caption
            is_target = label == caption.target
            by = (f"by {caption.method}",) if self.is_single or is_target else ()
            headings.append(Heading("" if is_target else label, caption.headline, (*by, *caption.remarks)))
        same = len({heading[1:] for heading in headings}) == 1
        return [headings[0]._replace(label="")] if same else headings

    @property
    def target(self) -> str:
        """The name of what orange words are evidence for."""
        captions = [one.caption for one in self.scored.values()]
        return captions[0].target if len({caption.target for caption in captions}) == 1 else f"the {captions[0].kind}"

    @property
    def title(self) -> str:
        """The target and the first words, for a page."""
        return f"{self.first.caption.target}: {' '.join(self.first.text.split())[:60]}"


def labels_of(scored: Iterable[ScoredText]) -> list[str]:
    """The shortest labels that differ: methods, targets, both, or both with numbers."""
    captions = [one.caption for one in scored]
    methods, targets = [caption.method for caption in captions], [caption.target for caption in captions]
    both = [f"{method}, {target}" for method, target in zip(methods, targets, strict=True)]
    for labels in (methods if len(set(methods)) > 1 or len(methods) == 1 else targets, both):
        if len(set(labels)) == len(labels):
            return labels
    return [f"{i}. {label}" for i, label in enumerate(both, start=1)]


def cut(piece: Piece, widest: int) -> Iterable[Piece]:
    """A piece in parts of at most `widest` cells."""
    if cell_len(piece.text) <= widest:
        return [piece]
    parts = [""]
    for character in piece.text:
        if parts[-1] and cell_len(parts[-1] + character) > widest:
            parts.append("")
        parts[-1] += character
    starts = accumulate(map(len, parts[:-1]), initial=piece.start)
    return [
        replace(piece, text=part, start=start, mark=piece.mark if start == piece.start else "")
        for part, start in zip(parts, starts, strict=True)
    ]
