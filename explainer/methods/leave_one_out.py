"""Leave-one-out: how much the target's logit falls when a token is deleted (Li et al. 2016, erasure)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from explainer.explained import ExplainedModel, TokenBatch, Tokens
from explainer.methods.base import AbstractMethod, one_at_a_time
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class LeaveOneOut(AbstractMethod):
    """f_c(x) - f_c(x without token j), positions renumbered: n forward passes."""

    name: ClassVar[str] = "leave_one_out"

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        def without(row: Tokens, j: int) -> Tokens:
            return row.select(torch.arange(len(row)) != j)

        return one_at_a_time(explained, batch, target, without)

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(n_scorable)
