"""The contract of RPI's baselines: the attention that a path starts from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch, edit_attention_weights
from explainer.explained.upper_layers import LayerAttention, UpperLayers
from explainer.methods.random import generator_of
from explainer.typing import Embeddings

Attention = Float[Tensor, "layers batch heads seq seq"]
"""The attention weights of some layers; the last two dimensions are queries and keys."""


@dataclass(frozen=True, eq=False)
class AttentionState:
    """What a sampler may look at.

    Attributes:
        explained: the model whose attention it is.
        batch: the texts, right-padded, as are all tensors here.
        layers: the edited blocks, indices from 0, from the lowest up.
        attention: their attention weights on the texts.
        hidden: the hidden state that enters the lowest of them.
    """

    explained: ExplainedModel
    batch: TokenBatch
    layers: tuple[int, ...]
    attention: Attention
    hidden: Embeddings

    @property
    def valid(self) -> Bool[Tensor, "layers batch seq seq"]:
        """Entries between real tokens that the layer's mask (causal, window) lets through."""
        real = self.batch.attention_mask.bool()
        return (self.attention != 0).any(dim=2) & real[:, :, None] & real[:, None, :]


@contextmanager
def record_attention(
    explained: ExplainedModel, batch: TokenBatch, layers: tuple[int, ...]
) -> Iterator[tuple[AttentionState, UpperLayers, LayerAttention]]:
    """The attention of the texts, the model from the lowest of the layers up, and the edit that supplies attention.

    Inside the block, `LayerAttention.supplied` replaces the attention of the layers in every pass.
    """
    edit = LayerAttention(explained, layers)
    with edit_attention_weights(explained.model, edit):
        upper = UpperLayers(explained, batch, layers[0])
        yield AttentionState(explained, upper.batch, layers, edit.attention, upper.hidden), upper, edit


@dataclass(frozen=True)
class AbstractBaseline(ABC):
    """Draws baseline attention.

    A sample depends on the text's own tokens, `sample` and `seed` alone, never on the other texts of the batch or on
    padding. Entries where `state.valid` is false stay as they are in `state.attention`. A sampler may run
    `state.explained`.
    """

    name: ClassVar[str]
    deterministic: ClassVar[bool] = False
    """Whether every sample is the same, so that one is enough."""
    forwards: ClassVar[float] = 0.0
    """The cost of a sample, in forward passes of the text."""

    @property
    def path(self) -> dict[str, Any]:
        """The settings of RPI that it was made for (`layers`, `formula`, `n_steps` ...): defaults of those settings."""
        return {}

    @property
    def key(self) -> str:
        """Names the sampler and everything that determines its samples, in reports and cache keys."""
        return self.name

    @abstractmethod
    def __call__(self, state: AttentionState, sample: int, seed: int) -> Attention:
        """Sample number `sample` of every text; rows need not sum to one."""


def white_noise(state: AttentionState, sample: int, seed: int) -> Attention:
    """Standard normal numbers that depend on each text's own tokens, 0 at padding."""
    noise = torch.zeros_like(state.attention)
    for i, tokens in enumerate(state.batch.to("cpu").sequences()):
        n = len(tokens)
        shape = (len(state.layers), state.attention.shape[2], n, n)
        own = torch.randn(shape, generator=generator_of(tokens, (seed << 16) + sample))
        noise[:, i, :, :n, :n] = own.to(noise)
    return noise
