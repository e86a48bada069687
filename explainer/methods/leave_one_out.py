"""Leave-one-out: how much the target's objective falls when a unit is deleted (Li et al. 2016, erasure)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.methods.base import AbstractTextMethod, one_at_a_time
from explainer.typing import RaggedScores


@dataclass(frozen=True)
class LeaveOneOut(AbstractTextMethod):
    """objective(x) - objective(x without unit j), positions renumbered: n forward passes."""

    name: ClassVar[str] = "leave_one_out"
    operator: ClassVar[str | None] = "delete"

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        absent = explained.baseline_token_id
        return one_at_a_time(explained, texts, target, lambda tokens, unit: tokens.deleted(unit, absent))

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(n_scorable)
