"""AttnLRP: layer-wise relevance propagation through attention, in one modified backward pass.

Achtibat et al., AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers, ICML 2024.
"""

from dataclasses import dataclass
from typing import ClassVar

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.base import AbstractMethod, gradient_times_input, logit_of
from explainer.methods.lrp import attn_lrp_rules
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class AttnLRP(AbstractMethod):
    """Relevance of each word embedding for the target's logit: sum_d e_id * dL/de_id under the AttnLRP rules.

    Raises:
        ValueError: on models whose attention is not on transformers' attention interface (DeBERTa, XLNet, BLOOM).
    """

    name: ClassVar[str] = "attn_lrp"

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        with attn_lrp_rules(explained.model):
            return gradient_times_input(explained, batch, lambda logits: logit_of(logits, target))

    def forward_equivalents(self, n_scorable: int) -> float:
        return 3.0
