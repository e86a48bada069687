"""GAE: relevance added up along the layers' gradient-weighted attention.

Chefer, Gur and Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
Transformers, ICCV 2021. With the attention A of a layer and the gradient G of the objective there:

    A' = mean over heads of max(G * A, 0)                                   (equation 5)
    R  <- R + A' R                 starting from the identity               (equations 1 and 6)
    R_across <- R_across + A' R_across             decoder self-attention   (equation 7)
    R_across <- R_across + N(R_decoder)^T A'_cross N(R_encoder)             (equation 10)

N normalises the rows of R without its identity and adds it again (equations 8 and 9). Scores are read from R without
the identity: with it, the position that the head reads would start ahead of the others.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from explainer.explained import ExplainedModel, Target, TokenBatch
from explainer.methods.attention.weights import Attention, identity_like, scores_read, weights_and_gradients
from explainer.methods.base import AbstractBatchMethod, in_one_sequence
from explainer.typing import Scores


@dataclass(frozen=True)
class GAE(AbstractBatchMethod):
    """Generic attention explainability of the objective.

    Raises:
        ValueError: on models whose attention is not on transformers' attention interface (DeBERTa, XLNet, BLOOM).
    """

    name: ClassVar[str] = "gae"

    @in_one_sequence()
    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        pairs = zip(*weights_and_gradients(explained, batch, target), strict=True)
        weighted = [(weights * gradient).clamp(min=0).mean(dim=1) for weights, gradient in pairs]
        return scores_read(explained, batch, *relevance(weighted, explained.depth))

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0


def relevance(weighted: list[Attention], depth: int) -> tuple[Attention, Attention | None]:
    """R without its identity, and None; for an encoder-decoder (decoder to encoder, decoder to decoder).

    Args:
        weighted: A' of every attention, in the order of `attention_weights`.
        depth: how many of them are the backbone's own.
    """
    encoder = _accumulated(weighted[:depth])
    if len(weighted) == depth:
        return encoder - identity_like(encoder), None
    across, decoder = torch.zeros_like(weighted[depth + 1]), identity_like(weighted[depth])
    for own, cross in zip(weighted[depth::2], weighted[depth + 1 :: 2], strict=True):
        across, decoder = across + own @ across, decoder + own @ decoder
        across = across + _normalised(decoder).transpose(1, 2) @ cross @ _normalised(encoder)
    return across, decoder - identity_like(decoder)


def _accumulated(weighted: list[Attention]) -> Attention:
    relevance = identity_like(weighted[0])
    for layer in weighted:
        relevance = relevance + layer @ relevance
    return relevance


def _normalised(relevance: Attention) -> Attention:
    """Equations 8 and 9; a row that received no relevance stays that of the identity."""
    added = relevance - identity_like(relevance)
    total = added.sum(dim=-1, keepdim=True)
    return added / torch.where(total == 0, 1.0, total) + identity_like(relevance)
