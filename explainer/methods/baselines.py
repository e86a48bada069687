"""Baselines of RPI: the attention that a path starts from, drawn by whatever keeps `AbstractBaseline`'s contract.

The published one (Barkan et al., Improving LLM Attributions with Randomized Path-Integration, EMNLP Findings 2024) is
the end of a Gaussian diffusion of the attention A itself, beta growing linearly over T steps:

    B = sqrt(abar) A + sqrt(1 - abar) eps,    abar = prod_t (1 - beta_t)
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch, edit_attention_maps
from explainer.explained.resume import LayerMaps
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


@dataclass(frozen=True)
class Gaussian(AbstractBaseline):
    """The published baseline: attention at the end of a Gaussian diffusion, nearly pure noise.

    Args:
        n_timesteps: T, steps of the diffusion.
        first: beta of the first step.
        last: beta of the last step.
    """

    name: ClassVar[str] = "gaussian"
    n_timesteps: int = 500
    first: float = 1e-4
    last: float = 0.02

    def __call__(self, state: AttentionState, sample: int, seed: int) -> Maps:
        kept = float((1 - torch.linspace(self.first, self.last, self.n_timesteps, dtype=torch.float64)).prod())
        noise = white_noise(state, sample, seed)
        return torch.where(
            state.valid[:, :, None], math.sqrt(kept) * state.maps + math.sqrt(1 - kept) * noise, state.maps
        )


def white_noise(state: AttentionState, sample: int, seed: int) -> Maps:
    """Standard normal numbers of each text's own, 0 at padding."""
    noise = torch.zeros_like(state.maps)
    for i, row in enumerate(state.batch.to("cpu").rows()):
        shape = (len(state.layers), state.maps.shape[2], len(row), len(row))
        drawn = torch.randn(shape, generator=generator_of(row, (seed << 16) + sample))
        noise[:, i, :, : len(row), : len(row)] = drawn.to(noise)
    return noise


@dataclass(frozen=True)
class AllReference(AbstractBaseline):
    """The attention of the text with every scorable token replaced by the baseline token: one more forward pass."""

    name: ClassVar[str] = "all_reference"
    deterministic: ClassVar[bool] = True
    forwards: ClassVar[float] = 1.0

    def __call__(self, state: AttentionState, sample: int, seed: int) -> Maps:
        batch, explained = state.batch, state.explained
        reference = batch.input_ids.masked_fill(batch.scorable, explained.baseline_token_id)
        read = LayerMaps(explained, state.layers)
        with torch.no_grad(), edit_attention_maps(explained.model, read):
            explained(replace(batch, input_ids=reference))
        return read.maps


@dataclass(frozen=True)
class Zero(AbstractBaseline):
    """No attention at all, where Hao et al. (Self-Attention Attribution, AAAI 2021) start their path."""

    name: ClassVar[str] = "zero"
    deterministic: ClassVar[bool] = True

    def __call__(self, state: AttentionState, sample: int, seed: int) -> Maps:
        return state.maps.masked_fill(state.valid[:, :, None], 0.0)


SAMPLERS: dict[str, AbstractBaseline] = {baseline.name: baseline for baseline in (Gaussian(), AllReference(), Zero())}


def sampler(baseline: str | AbstractBaseline) -> AbstractBaseline:
    """The sampler of that name, that of an exported folder, or the one given.

    Raises:
        ValueError: when there is no such sampler.
    """
    if isinstance(baseline, AbstractBaseline):
        return baseline
    if baseline in SAMPLERS:
        return SAMPLERS[baseline]
    if "/" in baseline or Path(baseline).is_dir():
        from explainer.methods.learned import Learned

        return Learned.load(baseline)
    raise ValueError(
        f"`baseline` must be one of {', '.join(SAMPLERS)}, a folder of `explainer export`, or a sampler, "
        f"got {baseline!r}."
    )
