"""SIG, sequential integrated gradients: integrate over one token at a time, the others staying in the sentence.

Enguehard, Sequential Integrated Gradients: a simple but effective method for explaining language models,
ACL Findings 2023, equation 3:

    SIG_j = sum_d (e_j - e_r)_d * integral_0^1 df_c / de_jd (e_r + s (e_j - e_r)) ds

The path moves one token along a straight line, so by the gradient theorem the sum over d is exactly
f_c(x) - f_c(x with token j replaced by r): n forward passes, no gradient and no quadrature error.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from captum.attr import IntegratedGradients

from explainer.explained import ExplainedModel, TokenBatch, Tokens
from explainer.methods.base import AbstractMethod, one_at_a_time, scorable_only
from explainer.methods.captum_methods import CaptumForward
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class SIG(AbstractMethod):
    """Sequential integrated gradients of the target's logit, baseline: the explained model's baseline token.

    Args:
        n_steps: None computes the token scores exactly; a number takes that many Gauss-Legendre points instead.
        internal_batch_size: rows of one forward-backward pass of the quadrature.
    """

    name: ClassVar[str] = "sig"
    n_steps: int | None = None
    internal_batch_size: int | None = None

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        return (
            self._exact(explained, batch, target)
            if self.n_steps is None
            else self._quadrature(explained, batch, target)
        )

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(n_scorable) if self.n_steps is None else 3.0 * n_scorable * self.n_steps

    def _exact(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        def without(row: Tokens, j: int) -> Tokens:
            return row.replaced(torch.arange(len(row)) == j, explained.baseline_token_id)

        return one_at_a_time(explained, batch, target, without)

    def _quadrature(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        forward = CaptumForward(explained)
        embeddings = forward.embeddings(batch)
        scores = torch.zeros_like(batch.scorable, dtype=torch.float32)
        for i in range(len(batch)):
            positions = batch.scorable[i].nonzero()[:, 0]
            rows = self.internal_batch_size or max(explained.batch_tokens // embeddings.shape[1], 1)
            for part in positions.split(rows) if len(positions) else ():
                paths = torch.arange(len(part), device=part.device)
                whole = embeddings[i].repeat(len(part), 1, 1)
                baseline = whole.clone()  # row j of the candidates lacks token j only
                baseline[paths, part] = explained.baseline_embedding().to(whole.dtype)
                parts = IntegratedGradients(forward).attribute(
                    whole,
                    baseline,
                    target=target[i].expand(len(part)),
                    additional_forward_args=forward.arguments(batch, torch.full_like(paths, i)),
                    n_steps=self.n_steps,
                    method="gausslegendre",
                    internal_batch_size=rows,
                )
                scores[i, part] = parts[paths, part].sum(dim=-1).to(scores.dtype)
        return scorable_only(scores, batch)
