"""What the methods that read attention share: every layer's maps, their gradients, and one map made of them all.

Maps are (batch, heads, queries, keys), or (batch, queries, keys) when the heads are summed up, in the order in which
the model computes them: the backbone's self-attentions from the lowest up, and after them, in an encoder-decoder,
self- and cross-attention of each decoder block. All are of the aligned batch (`TokenBatch.aligned`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from explainer.explained import ExplainedModel, TokenBatch, edit_attention_maps
from explainer.methods.base import logit_of, scorable_only
from explainer.typing import Scores, Target

Map = Float[Tensor, "batch _ _"]  # queries, keys


def lifted(embeddings: Tensor) -> Tensor:
    """The embedding edit that starts the graph."""
    return embeddings.detach().requires_grad_()


@contextmanager
def maps_read(explained: ExplainedModel) -> Iterator[list[Tensor]]:
    """The attention probabilities of the passes inside the block, in the order in which they are computed."""
    found: list[Tensor] = []

    def read(module: nn.Module, weights: Tensor) -> Tensor:
        found.append(weights)
        return weights

    with edit_attention_maps(explained.model, read):
        yield found


@torch.no_grad()
def attention_maps(explained: ExplainedModel, batch: TokenBatch) -> list[Tensor]:
    """The attention probabilities of every layer."""
    with maps_read(explained) as found:
        explained(batch)
    return found


def maps_and_gradients(
    explained: ExplainedModel, batch: TokenBatch, target: Target
) -> tuple[list[Tensor], list[Tensor]]:
    """The attention probabilities of every layer and the gradients of the target's logit there, from one pass."""
    with torch.enable_grad(), maps_read(explained) as found:
        value = logit_of(explained(batch, edit=lifted), target).sum()
    return [weights.detach() for weights in found], list(torch.autograd.grad(value, found))


def rows_read(explained: ExplainedModel, batch: TokenBatch, encoder: Map, decoder: Map | None = None) -> Scores:
    """What the rows that the head reads (`ExplainedModel.pooling`) say of every token of `batch`.

    Of an encoder-decoder, `encoder` and `decoder` are (decoder positions, encoder or decoder positions); its decoder
    reads the text a second time, shifted right by one position, and a token's two entries are summed.
    """
    aligned, order = batch.aligned()
    share = explained.pooling(aligned).to(encoder.dtype)[:, None]
    scores = (share @ encoder)[:, 0]
    if decoder is not None:
        scores = scores + nn.functional.pad((share @ decoder)[:, 0, 1:], (0, 1))
    return scorable_only(batch.restored(scores, order), batch)


def identity_like(square: Map) -> Map:
    return torch.eye(square.shape[1], dtype=square.dtype, device=square.device).expand_as(square)


def rollout(maps: Sequence[Tensor], depth: int) -> tuple[Map, Map | None]:
    """Maps with the identity added and rows normalised, multiplied up the layers (Abnar and Zuidema 2020, section 3).

    A decoder block's cross-attention mixes its row with rows of the encoder's rollout, and the identity is the row
    itself. An encoder-decoder gives (decoder to encoder, decoder to decoder), anything else (its rollout, None).

    Args:
        maps: non-negative, heads averaged.
        depth: how many of them are the backbone's own.
    """
    rolled = identity_like(maps[0])
    for weights in maps[:depth]:
        rolled = _mixed(weights, rolled) + rolled / _total(weights)
    if len(maps) == depth:
        return rolled, None
    across, within = torch.zeros_like(maps[depth + 1]), identity_like(maps[depth])
    for own, cross in zip(maps[depth::2], maps[depth + 1 :: 2], strict=True):
        across, within = (_mixed(own, state) + state / _total(own) for state in (across, within))
        across, within = _mixed(cross, rolled) + across / _total(cross), within / _total(cross)
    return across, within


def identity_alone(maps: Sequence[Tensor], depth: int) -> Map:
    """The part of a rollout that went by no attention at all: the identities' own product, on the diagonal."""
    own = maps if len(maps) == depth else maps[depth:]
    share = torch.stack([1 / _total(weights) for weights in own]).prod(dim=0)
    return share * identity_like(own[0])


def _mixed(weights: Map, state: Map) -> Map:
    return weights / _total(weights) @ state


def _total(weights: Map) -> Tensor:
    """A row's sum with the identity's 1."""
    return 1 + weights.sum(dim=-1, keepdim=True)
