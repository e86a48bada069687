"""Input times gradient: the first-order effect of each word embedding (Shrikumar et al. 2016)."""

from dataclasses import dataclass
from typing import ClassVar

from captum.attr import InputXGradient

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.base import AbstractMethod, scorable_only
from explainer.methods.captum.forward import CaptumForward
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class InputTimesGradient(AbstractMethod):
    """Gradient of the target's logit times the embedding, summed over the hidden dimension."""

    name: ClassVar[str] = "input_x_gradient"

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        forward = CaptumForward(explained)
        parts = InputXGradient(forward).attribute(
            forward.embeddings(batch).requires_grad_(),
            target=target,
            additional_forward_args=forward.arguments(batch),
        )
        return scorable_only(parts.sum(dim=-1), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0
