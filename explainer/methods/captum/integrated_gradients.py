"""Integrated gradients (Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017).

    IG_i = sum_d (e_i - e_r)_d * integral_0^1 df_c / de_id (x_r + s (x - x_r)) ds

f_c: the target's objective. x_r: the text with the baseline token's embedding at every scorable position.
"""

from dataclasses import dataclass
from typing import ClassVar

from explainer.explained import ExplainedModel, Target, TokenBatch
from explainer.extras import OptionalModule
from explainer.methods.base import AbstractBatchMethod, scorable_only
from explainer.methods.captum.forward import CaptumForward
from explainer.typing import Scores

attr = OptionalModule("captum.attr")


@dataclass(frozen=True)
class IntegratedGradients(AbstractBatchMethod):
    """Integrated gradients (Sundararajan et al. 2017) from the baseline token at every scorable position.

    Args:
        n_steps: points of the Gauss-Legendre quadrature.
    """

    name: ClassVar[str] = "integrated_gradients"
    operator: ClassVar[str | None] = "replace"
    complete: ClassVar[bool] = True
    n_steps: int = 50

    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        forward = CaptumForward(explained)
        embeddings = forward.embeddings(batch)
        parts = attr.IntegratedGradients(forward).attribute(
            embeddings,
            forward.without(batch, embeddings),
            additional_forward_args=forward.arguments(batch, target),
            n_steps=self.n_steps,
            method="gausslegendre",
            internal_batch_size=max(explained.batch_tokens // batch.input_ids.shape[1], len(batch)),
        )
        return scorable_only(parts.sum(dim=-1), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0 * self.n_steps
