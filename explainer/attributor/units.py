"""Scores per word, sentence, paragraph or character range instead of per token.

A method that perturbs takes a whole unit away at once. For any other method the scores of a unit's tokens are summed.
In both cases the unit's score is then shared evenly among its tokens, so that sums over tokens, words and units agree.
"""

from collections.abc import Sequence
from dataclasses import replace

from explainer.explained import Attributions, EncodedText
from explainer.methods.base import from_units
from explainer.scored_text import Units, unit_numbers
from explainer.typing import TokenScores


def with_units(texts: Sequence[EncodedText], units: Units | None) -> list[EncodedText]:
    """The texts with their tokens numbered by unit; the tokens outside all given ranges are one more unit.

    Raises:
        ValueError: when there is no such unit, or a range is outside its text or overlaps another.
    """
    if units is None:
        return list(texts)
    return [
        replace(
            text,
            units=unit_numbers(
                text.text,
                text.offsets,
                text.scorable.tolist(),
                text.segments,
                units,
                text_pair=text.text_pair,
                words=text.words,
            ),
        )
        for text in texts
    ]


def share_in_units(attributions: Attributions) -> Attributions:
    """The attributions with every unit's sum shared evenly among its tokens; texts without units stay as they are."""
    scores = [_shared(text, own) for text, own in zip(attributions.texts, attributions.scores, strict=True)]
    return Attributions(attributions.texts, attributions.target, scores)


def _shared(text: EncodedText, scores: TokenScores) -> TokenScores:
    if text.units is None:
        return scores
    masks = text.unit_masks
    return from_units(text, masks, scores.new_tensor([scores[mask].sum() for mask in masks]))
