"""SIG, sequential integrated gradients: integrate over one token at a time, the others staying in the sentence.

Enguehard, Sequential Integrated Gradients: a simple but effective method for explaining language models,
ACL Findings 2023, equation 3:

    SIG_jd = (e_j - e_r)_d * integral_0^1 df_c / de_jd (e_r + s (e_j - e_r)) ds

The path moves one token along a straight line, so by the gradient theorem the sum over d is exactly
f_c(x) - f_c(x with token j replaced by r): n forward passes, no gradient and no quadrature error. f_c is the target's
objective. Where a text groups its tokens to units, a path moves all tokens of a unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Target, Tokens
from explainer.explained.conventions import baseline_token_id
from explainer.extras import OptionalModule
from explainer.methods.base import AbstractTextMethod, from_units, one_at_a_time
from explainer.methods.captum.forward import CaptumForward
from explainer.typing import RaggedScores, TokenMask

attr = OptionalModule("captum.attr")

Dimensions = list[Float[Tensor, "_ hidden"]]
"""One number per token and dimension of its embedding, of each text."""


@dataclass(frozen=True)
class SIG(AbstractTextMethod):
    """Sequential integrated gradients of the target's objective.

    Args:
        n_steps: None computes the scores exactly; a number takes that many Gauss-Legendre points instead.
        internal_batch_size: rows of one forward-backward pass of the quadrature.
        baseline: what a token starts from: `mask`, `pad`, `unk`, `zero` (the zero vector) or a token of the
            vocabulary; None is the explained model's baseline token.
    """

    name: ClassVar[str] = "sig"
    operator: ClassVar[str | None] = "replace"
    n_steps: int | None = None
    internal_batch_size: int | None = None
    baseline: str | None = None

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        if self.n_steps is None:
            return self._exact(explained, texts, target)
        parts = self._quadrature(explained, texts, target, self.n_steps, self.internal_batch_size)
        return _token_scores(texts, parts)

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(n_scorable) if self.n_steps is None else 3.0 * n_scorable * self.n_steps

    def attribute_dimensions(
        self,
        explained: ExplainedModel,
        texts: Sequence[EncodedText],
        target: Target,
        n_steps: int = 50,
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
    ) -> Dimensions | tuple[Dimensions, RaggedScores]:
        """The integral for every dimension of every scorable token, by Gauss-Legendre quadrature; one padded batch.

        Args:
            n_steps: points of the quadrature.
            internal_batch_size: rows of one forward-backward pass; None fills the explained model's token budget.
            return_convergence_delta: whether to return also the scores that the integrals sum to, less the exact ones.

        Returns:
            One tensor (tokens, hidden) per text, 0 where not scorable; with the deltas, also one (tokens,) per text.
        """
        parts = self._quadrature(explained, texts, target, n_steps, internal_batch_size)
        if not return_convergence_delta:
            return parts
        exact = self._exact(explained, texts, target)
        return parts, [sums - true for sums, true in zip(_token_scores(texts, parts), exact, strict=True)]

    def _exact(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        reference = self._reference(explained)

        def without(tokens: Tokens, unit: TokenMask) -> Tokens:
            return tokens.blanked(unit) if reference is None else tokens.replaced(unit, reference)

        return one_at_a_time(explained, texts, target, without)

    def _quadrature(
        self,
        explained: ExplainedModel,
        texts: Sequence[EncodedText],
        target: Target,
        n_steps: int,
        most_rows: int | None,
    ) -> Dimensions:
        batch, target = explained.collate(texts), target.to(explained.device)
        forward = CaptumForward(explained)
        embeddings = forward.embeddings(batch)
        start = self._start(explained).to(embeddings.dtype)
        integrals = torch.zeros_like(embeddings)
        most_rows = most_rows or max(explained.batch_tokens // embeddings.shape[1], 1)
        for i, text in enumerate(texts):
            if not text.n_scorable:
                continue
            units = F.pad(torch.stack(text.unit_masks), (0, batch.input_ids.shape[1] - len(text)))
            # One path per unit: each ends in the whole text, and begins without that unit.
            for moved in units.to(explained.device).split(most_rows):
                whole = embeddings[i].repeat(len(moved), 1, 1)
                rows = torch.full((len(moved),), i, device=explained.device)
                parts = attr.IntegratedGradients(forward).attribute(
                    whole,
                    torch.where(moved[..., None], start, whole),
                    additional_forward_args=forward.arguments(batch[rows], target[rows]),
                    n_steps=n_steps,
                    method="gausslegendre",
                    internal_batch_size=most_rows,
                )
                integrals[i] += parts.masked_fill(~moved[..., None], 0.0).sum(dim=0)
        return batch.split(integrals)

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
        if token == words.pad_token and explained.padding_moves_positions:
            raise ValueError(
                f"`baseline` {self.baseline!r} is the padding token: this model counts positions past it, so that all "
                "later tokens would move. Choose another, such as 'mask' or 'zero'."
            )
        try:
            return baseline_token_id(explained.model, words, token)
        except ValueError as error:
            raise ValueError(f"`baseline` {self.baseline!r}: {error}") from error


def _token_scores(texts: Sequence[EncodedText], parts: Dimensions) -> RaggedScores:
    """The sums over the dimensions, each unit's shared evenly among its tokens."""
    scores = []
    for text, dimensions in zip(texts, parts, strict=True):
        sums, units = dimensions.sum(dim=-1).cpu(), text.unit_masks
        scores.append(from_units(text, units, sums.new_tensor([sums[unit].sum().item() for unit in units])))
    return scores
