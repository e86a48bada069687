"""Mask-LRP: relevance that flows through the important attention heads only.

Song et al., Mask-LRP (Better Explain Transformers by Illuminating Important Information), EACL Findings 2024, on the
relevance rules of Chefer et al., CVPR 2021. With G_l the gradient of the objective at the attention of layer l, and R_l
the relevance there, of the target's logit:

    C_l = mean over heads of max(G_l * R_l, 0)
    scores = the rows that the head reads of prod_l N(C_l + I)              (N: rows sum to 1)

R_l comes from the incoming relevance before the mask; the relevance that flows further down is multiplied by the head
mask M[l, h]. The product of the identities alone is subtracted, because it went through no attention: in an encoder it
is the entry from CLS to CLS. With `rules="attn_lrp"` the same mask works on AttnLRP: relevance of the embeddings, with
the gradient through each head multiplied by M.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from explainer.attention_heads import HeadMask
from explainer.explained import ExplainedModel, Target, TokenBatch, edit_attention
from explainer.explained.readout import precise
from explainer.methods.attention.weights import as_leaf, identity_part, rollout, scores_read, weights_and_gradients
from explainer.methods.base import AbstractBatchMethod, gradient_times_input, in_one_sequence
from explainer.methods.lrp.chefer import Masked, chefer_rules
from explainer.methods.lrp.rules import lrp_rules
from explainer.typing import Scores


@dataclass(frozen=True)
class MaskLRP(AbstractBatchMethod):
    """Mask-LRP of the objective. With every head kept it is the method of Chefer et al., or AttnLRP.

    With the rules of Chefer et al. the relevance is that of the target's logit, and the gradient that of the objective.
    For an encoder-decoder, the mask applies to the encoder's heads, and all heads of the decoder are kept.

    Args:
        rules: chefer or attn_lrp.
        heads: a file that `explainer heads` wrote; every head is kept without one.

    Raises:
        ValueError: when the rules or the file do not fit the model, or its attention is not on transformers'
            attention interface (DeBERTa, XLNet, BLOOM).
    """

    name: ClassVar[str] = "mask_lrp"
    rules: str = "chefer"
    heads: str | None = None

    def __post_init__(self) -> None:
        if self.rules not in ("chefer", "attn_lrp"):
            raise ValueError(f"`rules` must be chefer or attn_lrp, got {self.rules!r}.")

    @property
    def settings(self) -> dict[str, Any]:
        """With a hash of the file, whose content may change while its name does not."""
        hashed = {} if self.heads is None else {"heads_sha256": sha256(Path(self.heads).read_bytes()).hexdigest()}
        return super().settings | hashed

    @in_one_sequence()
    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        mask = None if self.heads is None else HeadMask.load(self.heads).tensor(explained)
        return {"chefer": chefer, "attn_lrp": attn_lrp}[self.rules](explained, batch, target, mask)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0 if self.rules == "attn_lrp" else 8.0  # a backward pass by z+ multiplies by each weight four times


def chefer(explained: ExplainedModel, batch: TokenBatch, target: Target, mask: Tensor | None = None) -> Scores:
    """Gradient-weighted relevance, rolled out; `mask` (layers, heads)."""
    _, gradients = weights_and_gradients(explained, batch, target)
    relevances = relevance_at_attention(explained, batch, target, mask)
    pairs = zip(gradients, relevances, strict=True)
    weighted = [(gradient * precise(relevance)).clamp(min=0).mean(dim=1) for gradient, relevance in pairs]
    depth = explained.depth
    identities = identity_part(weighted, depth)
    rolled, decoder = rollout(weighted, depth)
    parts = (rolled - identities, None) if decoder is None else (rolled, decoder - identities)
    return scores_read(explained, batch, *parts)


def relevance_at_attention(
    explained: ExplainedModel, batch: TokenBatch, target: Target, mask: Tensor | None = None
) -> list[Tensor]:
    """R_l (batch, heads, queries, keys) at the attention of every layer, in the order of `attention_weights`.

    The pass starts with 1 at the target's logit, as in the paper, whatever the objective is. The relevance of a
    contrast would sum to 0, and equation 10 of the rules multiplies by that sum: only rounding errors would be left. A
    foil and a score have their effect through the gradients G_l.
    """
    recorded: list[Tensor] = []
    factor_at = _factors(mask)

    def attention(attend: Any, module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kw: Any):
        weights = attend(module, query, key, value, *args, **kw)[1]
        value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
        factor = factor_at(len(recorded), value)
        recorded.append(Masked.apply(weights.to(value.dtype), factor))  # its gradient is R_l, before the mask
        return (recorded[-1] @ Masked.apply(value, factor)).transpose(1, 2).contiguous(), recorded[-1]

    with torch.enable_grad():
        with edit_attention(explained.model, attention, through="eager"), chefer_rules(explained.model):
            readout = explained(batch, edit=as_leaf)
        return list(torch.autograd.grad(readout.value(target.plain).sum(), recorded))


def attn_lrp(explained: ExplainedModel, batch: TokenBatch, target: Target, mask: Tensor | None = None) -> Scores:
    """AttnLRP with the gradient through each head multiplied by `mask` (layers, heads)."""
    calls = 0
    factor_at = _factors(mask)

    def attention(attend: Any, module: Any, *args: Any, **kw: Any) -> tuple[Tensor, Tensor | None]:
        nonlocal calls
        output, weights = attend(module, *args, **kw)
        calls += 1
        return Masked.apply(output, factor_at(calls - 1, output)[..., 0]), weights  # output: (batch, seq, heads, width)

    with lrp_rules(explained.model) as rules, edit_attention(explained.model, attention):
        return gradient_times_input(explained, batch, target, rules.paused())


def _factors(mask: Tensor | None) -> Callable[[int, Tensor], Tensor]:
    """A function that gives the mask (heads, 1, 1) of the i-th attention of a pass, in the precision of a tensor.

    The mask has one row per layer of the encoder; attention that comes after them, a decoder's, is kept whole.
    """

    def factor_at(i: int, like: Tensor) -> Tensor:
        heads = torch.ones(1, 1) if mask is None or i >= len(mask) else mask[i : i + 1].T
        return heads[..., None].to(like)

    return factor_at
