"""The contract of RPI's baselines: the attention that a path starts from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch, edit_attention_maps
from explainer.explained.upper_layers import LayerMaps, Resumed
from explainer.methods.random import generator_of
from explainer.typing import Embeddings

Maps = Float[Tensor, "layers batch heads seq seq"]


@dataclass(frozen=True, eq=False)
class AttentionState:
    """What a sampler may look at.

    `batch`: the texts, right-padded, as are all tensors here. `layers`: the edited blocks, indices from 0, from the
    lowest up. `maps`: their attention probabilities on the texts. `hidden`: the state entering the lowest of them.
    """

    explained: ExplainedModel
    batch: TokenBatch
    layers: tuple[int, ...]
    maps: Maps
    hidden: Embeddings

    @property
    def valid(self) -> Bool[Tensor, "layers batch seq seq"]:
        """Entries between real tokens that the layer's mask (causal, window) lets through."""
        real = self.batch.attention_mask.bool()
        return (self.maps != 0).any(dim=2) & real[:, :, None] & real[:, None, :]


@contextmanager
def recorded(
    explained: ExplainedModel, batch: TokenBatch, layers: tuple[int, ...]
) -> Iterator[tuple[AttentionState, Resumed, LayerMaps]]:
    """The texts' own attention, and the model from the lowest of the layers up, ready for other maps."""
    maps = LayerMaps(explained, layers)
    with edit_attention_maps(explained.model, maps):
        resumed = Resumed(explained, batch, layers[0])
        yield AttentionState(explained, resumed.batch, layers, maps.maps, resumed.hidden), resumed, maps


@dataclass(frozen=True)
class AbstractBaseline(ABC):
    """Draws baseline attention maps.

    A sample depends on the text's own tokens, `sample` and `seed` alone, never on the texts beside it or on padding.
    Entries where `state.valid` is false stay as they are in `state.maps`. It may run `state.explained`.
    """

    name: ClassVar[str]
    deterministic: ClassVar[bool] = False
    """Whether every sample is the same, so that one is enough."""
    forwards: ClassVar[float] = 0.0
    """The cost of a sample, in forward passes of the text."""

    @property
    def path(self) -> dict[str, Any]:
        """RPI's settings that it was made for (`layers`, `formula`, `n_steps` ...), which hold unless given."""
        return {}

    @property
    def key(self) -> str:
        """Names the sampler and all that decides its samples, in reports and cache keys."""
        return self.name

    @abstractmethod
    def __call__(self, state: AttentionState, sample: int, seed: int) -> Maps:
        """Sample number `sample` of every text; rows need not sum to one."""


def white_noise(state: AttentionState, sample: int, seed: int) -> Maps:
    """Standard normal numbers of each text's own, 0 at padding."""
    noise = torch.zeros_like(state.maps)
    for i, row in enumerate(state.batch.to("cpu").rows()):
        shape = (len(state.layers), state.maps.shape[2], len(row), len(row))
        drawn = torch.randn(shape, generator=generator_of(row, (seed << 16) + sample))
        noise[:, i, :, : len(row), : len(row)] = drawn.to(noise)
    return noise
