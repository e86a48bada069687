"""What is not ours comes from captum: gradient methods on the output of the embedding module."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from captum.attr import InputXGradient, IntegratedGradients
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.base import AbstractMethod, scorable_only
from explainer.typing import Embeddings, Logits, Scores, Target


class CaptumForward:
    """The explained model as captum calls one: embeddings first, then the tensors of a TokenBatch."""

    def __init__(self, explained: ExplainedModel) -> None:
        self.explained = explained

    def __call__(self, embeddings: Tensor, ids: Tensor, mask: Tensor, scorable: Tensor, types: Any = None) -> Logits:
        return self.explained(TokenBatch(ids, mask, scorable, types), edit=lambda _: embeddings)

    def embeddings(self, batch: TokenBatch) -> Embeddings:
        """The word embeddings that the ids would get."""
        found: list[Tensor] = []

        def read(embeddings: Tensor) -> Tensor:
            found.append(embeddings)
            return embeddings

        with torch.no_grad():
            self.explained(batch, edit=read)
        return found[0]

    def arguments(self, batch: TokenBatch, rows: Tensor | None = None) -> tuple[Any, ...]:
        """The batch (or its `rows`) as the additional forward arguments that captum expands over its steps."""
        tensors = (batch.input_ids, batch.attention_mask, batch.scorable, batch.token_type_ids)
        return tuple(t if t is None or rows is None else t[rows] for t in tensors)


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


@dataclass(frozen=True)
class IntegratedGradientsMethod(AbstractMethod):
    """Integrated gradients (Sundararajan et al. 2017) from the baseline token at every scorable position.

    Args:
        n_steps: points of the Gauss-Legendre quadrature.
    """

    name: ClassVar[str] = "integrated_gradients"
    n_steps: int = 50

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        forward = CaptumForward(explained)
        embeddings = forward.embeddings(batch)
        baseline = explained.baseline_embedding().to(embeddings.dtype)
        parts = IntegratedGradients(forward).attribute(
            embeddings,
            torch.where(batch.scorable[..., None], baseline, embeddings),
            target=target,
            additional_forward_args=forward.arguments(batch),
            n_steps=self.n_steps,
            method="gausslegendre",
            internal_batch_size=max(explained.batch_tokens // batch.input_ids.shape[1], len(batch)),
        )
        return scorable_only(parts.sum(dim=-1), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0 * self.n_steps
