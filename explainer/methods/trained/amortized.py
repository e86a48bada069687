"""A trained explainer as an attribution method: one pass of its network, whatever it was taught."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from explainer.explained import ExplainedModel, TokenBatch
from explainer.explainers import AbstractMaskExplainer
from explainer.methods.base import AbstractMethod, scorable_only
from explainer.typing import Logits, Scores, Target


@dataclass(frozen=True)
class Amortized(AbstractMethod):
    """Scores of a mask explainer that was trained for this explained model."""

    name: ClassVar[str] = "explainer"
    explainer: AbstractMaskExplainer = field(compare=False)

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        labels = F.one_hot(target, len(explained.labels)).float()
        with torch.no_grad():
            return scorable_only(self.explainer(explained, batch, labels), batch)

    @torch.no_grad()
    def predicting(self, explained: ExplainedModel, batch: TokenBatch) -> tuple[Logits, Callable[[Target], Scores]]:
        logits, score = self.explainer.predicting(explained, batch)

        @torch.no_grad()
        def scores(target: Target) -> Scores:
            return scorable_only(score(F.one_hot(target, logits.shape[1]).float()), batch)

        return logits, scores

    def forward_equivalents(self, n_scorable: int) -> float:
        """What the explanation adds to the prediction: 1 for a network that reads the text itself, a few hundredths for
        one that reads the states of the prediction's own pass."""
        return self.explainer.forward_equivalents

    @property
    def settings(self) -> dict[str, Any]:
        raise TypeError("A trained explainer has weights, not settings: its scores are not cached.")
