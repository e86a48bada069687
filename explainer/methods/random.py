"""Uniform random scores: the control condition of a comparison."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from explainer.explained import EncodedText, ExplainedModel, Target, Tokens
from explainer.methods.base import AbstractTextMethod
from explainer.typing import RaggedScores


@dataclass(frozen=True)
class Random(AbstractTextMethod):
    """Uniform scores from a seed and the text's own tokens: the same text gets the same scores in any batch."""

    name: ClassVar[str] = "random"
    seed: int = 0

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        return [torch.rand(len(text), generator=generator_of(text.tokens, self.seed)) for text in texts]

    def forward_equivalents(self, n_scorable: int) -> float:
        return 0.0


def generator_of(tokens: Tokens, seed: int) -> torch.Generator:
    """Randomness that depends on the text's own tokens and the seed alone, not on its place in a batch."""
    own = tokens.input_ids if tokens.patches is None else tokens.patches
    digest = hashlib.sha256(own.numpy().tobytes() + str(seed).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
