"""Attention rollout: attention maps, averaged over heads, multiplied up the layers with the residual stream's identity.

Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, section 3:

    A~_l = (A_l + I) / 2 A~_{l-1}

The score of a token is its entry in the rows that the classification head reads. It is no evidence for a class: all
targets have the same scores, and none is negative.
"""

from dataclasses import dataclass
from typing import ClassVar

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.attention.maps import attention_maps, rollout, rows_read
from explainer.methods.base import AbstractMethod
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class AttentionRollout(AbstractMethod):
    """Attention rollout; a decoder block's rows reach the encoder's rollout through cross-attention.

    Raises:
        ValueError: on models whose attention is not on transformers' attention interface (DeBERTa, XLNet, BLOOM).
    """

    name: ClassVar[str] = "attention_rollout"

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        means = [weights.mean(dim=1) for weights in attention_maps(explained, batch)]
        return rows_read(explained, batch, *rollout(means, len(explained.layers)))

    def forward_equivalents(self, n_scorable: int) -> float:
        return 1.0
