"""Mask-LRP: relevance let through the important attention heads only.

Song et al., Mask-LRP (Better Explain Transformers by Illuminating Important Information), EACL Findings 2024, on the
relevance rules of Chefer et al., CVPR 2021. With G_l the gradient of the target's logit at layer l's attention maps and
R_l the relevance there:

    C_l = mean over heads of max(G_l * R_l, 0)
    scores = the rows that the head reads of prod_l N(C_l + I)              (N: rows sum to 1)

R_l comes from the unmasked incoming relevance; what flows further down is multiplied by the head mask M[l, h]. The
product of the identities alone is taken off, as it went by no attention: of an encoder that is the CLS-to-CLS entry.
`rules="attn_lrp"` puts the same mask on AttnLRP: relevance of the embeddings, its gradient through each head times M.
"""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from explainer.attention_heads import HeadMask
from explainer.explained import ExplainedModel, TokenBatch, edit_attention
from explainer.methods.attention.maps import identity_alone, lifted, maps_and_gradients, rollout, rows_read
from explainer.methods.base import AbstractMethod, gradient_times_input, logit_of
from explainer.methods.lrp.chefer import Masked, chefer_rules
from explainer.methods.lrp.rules import lrp_rules
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class MaskLRP(AbstractMethod):
    """Mask-LRP of the target's logit; with every head kept, Chefer et al.'s method or AttnLRP.

    Of an encoder-decoder the mask is that of the encoder's heads; the decoder's are all kept.

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
        """With a hash of the file, which may change under its name."""
        hashed = {} if self.heads is None else {"heads_sha256": sha256(Path(self.heads).read_bytes()).hexdigest()}
        return super().settings | hashed

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        mask = None if self.heads is None else HeadMask.load(self.heads).tensor(explained)
        return {"chefer": chefer, "attn_lrp": attn_lrp}[self.rules](explained, batch, target, mask)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0 if self.rules == "attn_lrp" else 8.0  # a z+ backward multiplies by each weight four times


def chefer(explained: ExplainedModel, batch: TokenBatch, target: Target, mask: Tensor | None = None) -> Scores:
    """Gradient-weighted relevance, rolled out; `mask` (layers, heads)."""
    _, gradients = maps_and_gradients(explained, batch, target)
    relevances = relevance_at_maps(explained, batch, target, mask)
    pairs = zip(gradients, relevances, strict=True)
    weighted = [(gradient * relevance).clamp(min=0).mean(dim=1) for gradient, relevance in pairs]
    depth = len(explained.layers)
    alone = identity_alone(weighted, depth)
    first, decoder = rollout(weighted, depth)
    parts = (first - alone, None) if decoder is None else (first, decoder - alone)
    return rows_read(explained, batch, *parts)


def relevance_at_maps(
    explained: ExplainedModel, batch: TokenBatch, target: Target, mask: Tensor | None = None
) -> list[Tensor]:
    """R_l (batch, heads, queries, keys) at the attention maps of every layer, in the order of `maps`."""
    found: list[Tensor] = []
    kept = _rows(mask)

    def attention(attend: Any, module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kw: Any):
        weights = attend(module, query, key, value, *args, **kw)[1]
        value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
        factor = kept(len(found), value)
        found.append(Masked.apply(weights.to(value.dtype), factor))  # its gradient is R_l, still unmasked
        return (found[-1] @ Masked.apply(value, factor)).transpose(1, 2).contiguous(), found[-1]

    with torch.enable_grad():
        with edit_attention(explained.model, attention, through="eager"), chefer_rules(explained.model):
            logits = explained(batch, edit=lifted)
        return list(torch.autograd.grad(logit_of(logits, target).sum(), found))


def attn_lrp(explained: ExplainedModel, batch: TokenBatch, target: Target, mask: Tensor | None = None) -> Scores:
    """AttnLRP with the gradient through each head multiplied by `mask` (layers, heads)."""
    layer = 0
    kept = _rows(mask)

    def attention(attend: Any, module: Any, *args: Any, **kw: Any) -> tuple[Tensor, Tensor | None]:
        nonlocal layer
        output, weights = attend(module, *args, **kw)
        layer += 1
        return Masked.apply(output, kept(layer - 1, output)[..., 0]), weights  # (batch, seq, heads, width)

    with lrp_rules(explained.model), edit_attention(explained.model, attention):
        return gradient_times_input(explained, batch, lambda logits: logit_of(logits, target))


def _rows(mask: Tensor | None) -> Callable[[int, Tensor], Tensor]:
    """The mask (heads, 1, 1) of the attention computed as the i-th; 1 everywhere where the mask says nothing."""

    def row(i: int, like: Tensor) -> Tensor:
        rows = torch.ones(1, 1) if mask is None or i >= len(mask) else mask[i : i + 1].T
        return rows[..., None].to(like)

    return row
