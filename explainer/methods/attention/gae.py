"""GAE: relevance added up along the layers' gradient-weighted attention maps.

Chefer, Gur and Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
Transformers, ICCV 2021. With the maps A of a layer and the gradients G of the target's logit there:

    A' = mean over heads of max(G * A, 0)                                   (equation 5)
    R  <- R + A' R                 starting from the identity               (equations 1 and 6)
    R_across <- R_across + A' R_across             decoder self-attention   (equation 7)
    R_across <- R_across + N(R_decoder)^T A'_cross N(R_encoder)             (equation 10)

N normalises the rows of R without its identity and adds it again (equations 8 and 9). Scores are read from R without
the identity, so that the row which the head reads has no start over the others.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.attention.maps import Map, identity_like, maps_and_gradients, rows_read
from explainer.methods.base import AbstractMethod
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class GAE(AbstractMethod):
    """Generic attention explainability of the target's logit.

    Raises:
        ValueError: on models whose attention is not on transformers' attention interface (DeBERTa, XLNet, BLOOM).
    """

    name: ClassVar[str] = "gae"

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        pairs = zip(*maps_and_gradients(explained, batch, target), strict=True)
        weighted = [(weights * gradient).clamp(min=0).mean(dim=1) for weights, gradient in pairs]
        return rows_read(explained, batch, *relevance(weighted, len(explained.layers)))

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0


def relevance(maps: list[Map], depth: int) -> tuple[Map, Map | None]:
    """R without its identity; of an encoder-decoder (decoder to encoder, decoder to decoder)."""
    encoder = _summed(maps[:depth])
    if len(maps) == depth:
        return encoder - identity_like(encoder), None
    across, decoder = torch.zeros_like(maps[depth + 1]), identity_like(maps[depth])
    for own, cross in zip(maps[depth::2], maps[depth + 1 :: 2], strict=True):
        across, decoder = across + own @ across, decoder + own @ decoder
        across = across + _normalised(decoder).transpose(1, 2) @ cross @ _normalised(encoder)
    return across, decoder - identity_like(decoder)


def _summed(maps: list[Map]) -> Map:
    relevance = identity_like(maps[0])
    for weights in maps:
        relevance = relevance + weights @ relevance
    return relevance


def _normalised(relevance: Map) -> Map:
    """Equations 8 and 9; a row that nothing was added to stays the identity's."""
    added = relevance - identity_like(relevance)
    total = added.sum(dim=-1, keepdim=True)
    return added / torch.where(total == 0, 1.0, total) + identity_like(relevance)
