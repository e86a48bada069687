"""Baselines without training.

The published one (Barkan et al., Improving LLM Attributions with Randomized Path-Integration, EMNLP Findings 2024) is
the end of a Gaussian diffusion of the attention A itself, beta growing linearly over T steps:

    B = sqrt(abar) A + sqrt(1 - abar) eps,    abar = prod_t (1 - beta_t)
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from explainer.explained import edit_attention_weights
from explainer.explained.upper_layers import LayerAttention
from explainer.methods.rpi.baselines.base import AbstractBaseline, Attention, AttentionState, white_noise


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

    def __call__(self, state: AttentionState, sample: int, seed: int) -> Attention:
        kept = float((1 - torch.linspace(self.first, self.last, self.n_timesteps, dtype=torch.float64)).prod())  # abar
        noise = white_noise(state, sample, seed)
        noised = math.sqrt(kept) * state.attention + math.sqrt(1 - kept) * noise
        return torch.where(state.valid[:, :, None], noised, state.attention)


@dataclass(frozen=True)
class AllReference(AbstractBaseline):
    """The attention of the text with every scorable token replaced by the baseline token: one more forward pass."""

    name: ClassVar[str] = "all_reference"
    deterministic: ClassVar[bool] = True
    forwards: ClassVar[float] = 1.0

    def __call__(self, state: AttentionState, sample: int, seed: int) -> Attention:
        batch, explained = state.batch, state.explained
        reference = batch.input_ids.masked_fill(batch.scorable, explained.baseline_token_id)
        reader = LayerAttention(explained, state.layers)
        with torch.no_grad(), edit_attention_weights(explained.model, reader):
            explained(replace(batch, input_ids=reference))
        return reader.attention


@dataclass(frozen=True)
class Zero(AbstractBaseline):
    """No attention at all, where the path of Hao et al. (Self-Attention Attribution, AAAI 2021) starts."""

    name: ClassVar[str] = "zero"
    deterministic: ClassVar[bool] = True

    def __call__(self, state: AttentionState, sample: int, seed: int) -> Attention:
        return state.attention.masked_fill(state.valid[:, :, None], 0.0)
