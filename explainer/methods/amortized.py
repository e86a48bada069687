"""A trained explainer as an attribution method: one pass of its network, whatever it was taught."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.base import AbstractMethod, scorable_only
from explainer.models import AbstractMaskExplainer
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class Amortized(AbstractMethod):
    """Scores of a mask explainer that was trained for this explained model."""

    name: ClassVar[str] = "explainer"
    explainer: AbstractMaskExplainer = field(compare=False)

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        labels = F.one_hot(target, len(explained.labels)).float()
        with torch.no_grad():
            return scorable_only(self.explainer(explained, batch, labels), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 1.0

    @property
    def settings(self) -> dict[str, Any]:
        raise TypeError("A trained explainer has weights, not settings: its scores are not cached.")
