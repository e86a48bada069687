"""Scores that were computed elsewhere, as a method: `Comparison` measures them next to methods that run here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.explanation import Explanation
from explainer.methods.base import AbstractTextMethod
from explainer.typing import RaggedScores


@dataclass(frozen=True)
class Recorded(AbstractTextMethod):
    """Looks scores up by a text's tokens and its target. Its cost is none, since they are computed already.

    Args:
        explanations: of all texts that it is asked for.
    """

    name: ClassVar[str] = "recorded"
    explanations: tuple[Explanation, ...]

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        known = {(tuple(one.input_ids), one.target): one.scores for one in self.explanations}
        choices = target.choices[:, 0].tolist()
        keys = [(tuple(text.tokens.input_ids.tolist()), choice) for text, choice in zip(texts, choices, strict=True)]
        if missing := [text.text for text, key in zip(texts, keys, strict=True) if key not in known]:
            raise ValueError(
                f"`explanations` have no scores of {missing[0]!r:.60} for the target that is asked for; "
                f"{len(missing)} of {len(texts)} texts are missing."
            )
        return [torch.tensor(known[key]) for key in keys]

    def forward_equivalents(self, n_scorable: int) -> float:
        return 0.0
