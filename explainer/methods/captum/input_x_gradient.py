"""Input times gradient: the first-order effect of each word embedding (Shrikumar et al. 2016)."""

from dataclasses import dataclass
from typing import ClassVar

from explainer.explained import ExplainedModel, Target, TokenBatch
from explainer.extras import OptionalModule
from explainer.methods.base import AbstractBatchMethod, scorable_only
from explainer.methods.captum.forward import CaptumForward
from explainer.typing import Scores

attr = OptionalModule("captum.attr")


@dataclass(frozen=True)
class InputXGradient(AbstractBatchMethod):
    """Gradient of the target's objective times the embedding, summed over the hidden dimension."""

    name: ClassVar[str] = "input_x_gradient"

    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        forward = CaptumForward(explained)
        parts = attr.InputXGradient(forward).attribute(
            forward.embeddings(batch).requires_grad_(),
            additional_forward_args=forward.arguments(batch, target),
        )
        return scorable_only(parts.sum(dim=-1), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0
