"""Random scores: the row that every table must have."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch

from explainer.explained import ExplainedModel, TokenBatch, Tokens
from explainer.methods.base import AbstractMethod, scorable_only
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class Random(AbstractMethod):
    """Uniform scores from a seed and the text's own tokens: the same text gets the same scores in any batch."""

    name: ClassVar[str] = "random"
    seed: int = 0

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        scores = torch.zeros(batch.input_ids.shape)
        mask = batch.attention_mask.bool().cpu()
        for i, row in enumerate(batch.to("cpu").rows()):
            scores[i, mask[i]] = torch.rand(len(row), generator=generator_of(row, self.seed))
        return scorable_only(scores.to(batch.device), batch)

    def forward_equivalents(self, n_scorable: int) -> float:
        return 0.0


def generator_of(row: Tokens, seed: int) -> torch.Generator:
    """Randomness that depends on the text's own tokens and the seed alone, not on its place in a batch."""
    digest = hashlib.sha256(row.input_ids.numpy().tobytes() + str(seed).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
