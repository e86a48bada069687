"""SIG, sequential integrated gradients: integrate over one token at a time, the others staying in the sentence.

Enguehard, Sequential Integrated Gradients: a simple but effective method for explaining language models,
ACL Findings 2023, equation 3:

    SIG_jd = (e_j - e_r)_d * integral_0^1 df_c / de_jd (e_r + s (e_j - e_r)) ds

The path moves one token along a straight line, so by the gradient theorem the sum over d is exactly
f_c(x) - f_c(x with token j replaced by r): n forward passes, no gradient and no quadrature error.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from captum.attr import IntegratedGradients
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch, Tokens
from explainer.explained.loading import baseline_token_id
from explainer.methods.base import AbstractMethod, one_at_a_time, scorable_only
from explainer.methods.captum.forward import CaptumForward
from explainer.typing import Embeddings, Scores, Target


@dataclass(frozen=True)
class SIG(AbstractMethod):
    """Sequential integrated gradients of the target's logit.

    Args:
        n_steps: None computes the token scores exactly; a number takes that many Gauss-Legendre points instead.
        internal_batch_size: rows of one forward-backward pass of the quadrature.
        baseline: what a token starts from: `mask`, `pad`, `unk`, `zero` (the zero vector) or a token of the
            vocabulary; None is the explained model's baseline token.
    """

    name: ClassVar[str] = "sig"
    n_steps: int | None = None
    internal_batch_size: int | None = None
    baseline: str | None = None

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        if self.n_steps is None:
            return self._exact(explained, batch, target)
        parts = self._quadrature(explained, batch, target, self.n_steps, self.internal_batch_size)
        return scorable_only(parts.sum(dim=-1), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(n_scorable) if self.n_steps is None else 3.0 * n_scorable * self.n_steps

    def attribute_dimensions(
        self,
        explained: ExplainedModel,
        batch: TokenBatch,
        target: Target,
        n_steps: int = 50,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
    ) -> Embeddings | tuple[Embeddings, Scores]:
        """The integral for every dimension of every scorable token (batch, seq, hidden), by Gauss-Legendre quadrature.

        Args:
            n_steps: points of the quadrature.
            internal_batch_size: rows of one forward-backward pass; None fills the explained model's token budget.
            return_convergence_delta: whether to return also (batch, seq) the sums over the hidden dimension less the
                exact token scores.
        """
        parts = self._quadrature(explained, batch, target, n_steps, internal_batch_size)
        if not return_convergence_delta:
            return parts
        exact = self._exact(explained, batch, target)
        return parts, scorable_only(parts.sum(dim=-1) - exact, batch)

    def _exact(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        reference = self._reference(explained)

        def without(row: Tokens, j: int) -> Tokens:
            here = torch.arange(len(row)) == j
            return row.blanked(here) if reference is None else row.replaced(here, reference)

        return one_at_a_time(explained, batch, target, without)

    def _quadrature(
        self,
        explained: ExplainedModel,
        batch: TokenBatch,
        target: Target,
        n_steps: int,
        most_rows: int | None,
    ) -> Embeddings:
        forward = CaptumForward(explained)
        embeddings = forward.embeddings(batch)
        start = self._start(explained).to(embeddings.dtype)
        found = torch.zeros_like(embeddings)
        rows = most_rows or max(explained.batch_tokens // embeddings.shape[1], 1)
        for i in range(len(batch)):
            positions = batch.scorable[i].nonzero()[:, 0]
            for part in positions.split(rows) if len(positions) else ():
                paths = torch.arange(len(part), device=part.device)
                whole = embeddings[i].repeat(len(part), 1, 1)
                baseline = whole.clone()  # row j of the candidates lacks token j only
                baseline[paths, part] = start
                parts = IntegratedGradients(forward).attribute(
                    whole,
                    baseline,
                    target=target[i].expand(len(part)),
                    additional_forward_args=forward.arguments(batch, torch.full_like(paths, i)),
                    n_steps=n_steps,
                    method="gausslegendre",
                    internal_batch_size=rows,
                )
                found[i, part] = parts[paths, part].to(found.dtype)
        return found

    def _start(self, explained: ExplainedModel) -> Tensor:
        """The embedding (hidden,) a token starts from."""
        reference = self._reference(explained)
        zero = torch.zeros_like(explained.baseline_embedding())
        return zero if reference is None else explained.embedding(torch.tensor(reference, device=explained.device))

    def _reference(self, explained: ExplainedModel) -> int | None:
        """The id of the token that a token starts from; None for the zero vector."""
        if self.baseline is None or self.baseline == "zero":
            return None if self.baseline else explained.baseline_token_id
        words = explained.tokenizer
        named = {"mask": words.mask_token, "pad": words.pad_token, "unk": words.unk_token}
        token = named.get(self.baseline, self.baseline)
        if token is None:
            raise ValueError(f"`baseline` {self.baseline!r}: the tokenizer has none. Name another token, or 'zero'.")
        if token == words.pad_token and _counts_positions_from_padding(explained):
            raise ValueError(
                f"`baseline` {self.baseline!r} is the padding token: this model counts positions past it, so that all "
                "later tokens would move. Choose another, such as 'mask' or 'zero'."
            )
        try:
            return baseline_token_id(explained.model, words, token)
        except ValueError as error:
            raise ValueError(f"`baseline` {self.baseline!r}: {error}") from error


def _counts_positions_from_padding(explained: ExplainedModel) -> bool:
    return any(hasattr(module, "create_position_ids_from_input_ids") for module in explained.model.modules())
