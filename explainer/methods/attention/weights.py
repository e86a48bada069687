"""Attention weights of a pass, their gradients, and the way back through the layers to the tokens.

Attention weights are (batch, heads, queries, keys), or (batch, queries, keys) once the heads are averaged. Lists keep
the order in which the model computes attention: the backbone's self-attention from the lowest layer up, and after it,
in an encoder-decoder, self- and cross-attention of each decoder block in turn. All tensors are right-padded
(`TokenBatch.right_padded`), whatever side the batch is padded on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from explainer.explained import ExplainedModel, Target, TokenBatch, check_one_per_layer, edit_attention_weights
from explainer.explained.readout import precise
from explainer.methods.base import scorable_only
from explainer.typing import Scores

Attention = Float[Tensor, "batch _ _"]
"""Queries by keys: the weights of one layer with the heads averaged, or the product of several layers."""


def as_leaf(embeddings: Tensor) -> Tensor:
    """The embedding edit with which the autograd graph starts: the parameters of the model require no gradient."""
    return embeddings.detach().requires_grad_()


@contextmanager
def record_weights(explained: ExplainedModel) -> Iterator[list[Tensor]]:
    """The attention weights of the passes inside the block, in the order in which they are computed."""
    recorded: list[Tensor] = []

    def record(module: nn.Module, weights: Tensor) -> Tensor:
        recorded.append(weights)
        return weights

    with edit_attention_weights(explained.model, record):
        yield recorded


@torch.no_grad()
def attention_weights(explained: ExplainedModel, batch: TokenBatch) -> list[Tensor]:
    """The attention weights of every layer, in float32 at least."""
    with record_weights(explained) as weights:
        explained(batch)
    check_one_per_layer(explained.model, explained.depth, [each.shape for each in weights])
    return [precise(each) for each in weights]


def weights_and_gradients(
    explained: ExplainedModel, batch: TokenBatch, target: Target
) -> tuple[list[Tensor], list[Tensor]]:
    """The attention weights of every layer and the gradients of the objective there, in float32 at least; one pass."""
    with torch.enable_grad(), record_weights(explained) as weights:
        value = explained.objective(batch, target, edit=as_leaf).sum()
    check_one_per_layer(explained.model, explained.depth, [each.shape for each in weights])
    gradients = torch.autograd.grad(value, weights)
    return [precise(each.detach()) for each in weights], [precise(gradient) for gradient in gradients]


def scores_read(
    explained: ExplainedModel, batch: TokenBatch, encoder: Attention, decoder: Attention | None = None
) -> Scores:
    """The entries of every token at the positions where the task reads the answer (`AbstractTask.read_share`).

    The decoder of an encoder-decoder classifier reads the text a second time, shifted right by one position. A token
    then has an entry in each of the two, and its score is their sum. Other decoders read no token of the text.

    Args:
        encoder: queries are the positions of the last layer, in an encoder-decoder those of the decoder.
        decoder: in an encoder-decoder, decoder positions by decoder positions.
    """
    padded, order = batch.right_padded()
    share = explained.task.read_share(padded).to(encoder.dtype)[:, None]
    scores = (share @ encoder)[:, 0]
    if decoder is not None and explained.task.decoder_reads_text:
        scores = scores + nn.functional.pad((share @ decoder)[:, 0, 1:], (0, 1))
    return scorable_only(batch.original_order(scores, order), batch)


def identity_like(square: Attention) -> Attention:
    """The identity matrix for every text."""
    return torch.eye(square.shape[1], dtype=square.dtype, device=square.device).expand_as(square)


def rollout(weights: Sequence[Tensor], depth: int) -> tuple[Attention, Attention | None]:
    """Attention with the identity added and rows normalised, multiplied up the layers.

    Abnar and Zuidema 2020, section 3. The identity is the residual stream. In a decoder block, cross-attention mixes
    the position's own row with rows of the encoder's rollout.

    Args:
        weights: non-negative, heads averaged.
        depth: how many of them are the backbone's own.

    Returns:
        The rollout and None; for an encoder-decoder (decoder to encoder, decoder to decoder).
    """
    rolled = identity_like(weights[0])
    for layer in weights[:depth]:
        rolled = _mixed(layer, rolled) + rolled / _total(layer)
    if len(weights) == depth:
        return rolled, None
    to_encoder, to_decoder = torch.zeros_like(weights[depth + 1]), identity_like(weights[depth])
    for own, cross in zip(weights[depth::2], weights[depth + 1 :: 2], strict=True):
        to_encoder, to_decoder = (_mixed(own, state) + state / _total(own) for state in (to_encoder, to_decoder))
        to_encoder, to_decoder = _mixed(cross, rolled) + to_encoder / _total(cross), to_decoder / _total(cross)
    return to_encoder, to_decoder


def identity_part(weights: Sequence[Tensor], depth: int) -> Attention:
    """The part of a rollout that no attention contributed to: the product of the normalised identities alone."""
    own = weights if len(weights) == depth else weights[depth:]
    share = torch.stack([1 / _total(layer) for layer in own]).prod(dim=0)
    return share * identity_like(own[0])


def _mixed(weights: Attention, state: Attention) -> Attention:
    return weights / _total(weights) @ state


def _total(weights: Attention) -> Tensor:
    """The sum of each row, including the 1 of the identity."""
    return 1 + weights.sum(dim=-1, keepdim=True)
