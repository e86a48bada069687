"""The contract of captum's methods that work on one text at a time, by the presence of its units."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.methods.base import AbstractTextMethod, from_units
from explainer.methods.captum.forward import TextForward, seeded
from explainer.typing import RaggedScores


class AbstractPresenceMethod(AbstractTextMethod):
    """Scores of the units of one text at a time, from the objective as a function of their presence."""

    @abstractmethod
    def unit_scores(self, forward: TextForward) -> Tensor:
        """One score per unit, of a text that has some."""

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        scores = []
        for i, text in enumerate(texts):
            forward = TextForward(explained, text, target[i : i + 1])
            of_units = self.unit_scores(forward) if forward.units else torch.zeros(0)
            scores.append(from_units(text, forward.units, of_units))
        return scores


class AbstractSubsetMethod(AbstractPresenceMethod):
    """A linear model of what replacing random subsets of the units does.

    Attributes:
        n_samples: random subsets per text.
        seed: of the subsets; the same text gets the same subsets in any batch.
    """

    # Every subclass declares these as its own fields, in its own order: the order is that of its constructor.
    n_samples: int
    seed: int

    @abstractmethod
    def surrogate(self, forward: TextForward) -> Any:
        """The captum method that draws the subsets and fits the model."""

    def unit_scores(self, forward: TextForward) -> Tensor:
        with seeded(forward.text.tokens, self.seed, torch.device("cpu")):
            # One call with all subsets: they go through in one pooled prediction.
            return self.surrogate(forward).attribute(
                forward.whole, baselines=0, n_samples=self.n_samples, perturbations_per_eval=self.n_samples
            )[0]

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(self.n_samples)
