"""Attention rollout: attention, averaged over heads, multiplied up the layers together with the residual stream.

Abnar and Zuidema, Quantifying Attention Flow in Transformers, ACL 2020, section 3:

    A~_l = (A_l + I) / 2 A~_{l-1}

The score of a token is its entry in the rows that the classification head reads. It is no evidence for a class: all
targets have the same scores, and none is negative.
"""

from dataclasses import dataclass
from typing import ClassVar

from explainer.explained import ExplainedModel, Target, TokenBatch
from explainer.methods.attention.weights import attention_weights, rollout, scores_read
from explainer.methods.base import AbstractBatchMethod, in_one_sequence
from explainer.typing import Scores


@dataclass(frozen=True)
class AttentionRollout(AbstractBatchMethod):
    """Attention rollout; a decoder block's rows reach the encoder's rollout through cross-attention.

    Raises:
        ValueError: on models whose attention is not on transformers' attention interface (DeBERTa, XLNet, BLOOM).
    """

    name: ClassVar[str] = "attention_rollout"

    @in_one_sequence(plain=True)
    def scores(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        means = [weights.mean(dim=1) for weights in attention_weights(explained, batch)]
        return scores_read(explained, batch, *rollout(means, explained.depth))

    def forward_equivalents(self, n_scorable: int) -> float:
        return 1.0
