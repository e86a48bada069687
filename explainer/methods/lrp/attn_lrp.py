"""AttnLRP: layer-wise relevance propagation through attention, in one modified backward pass.

Achtibat et al., AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for Transformers, ICML 2024.
"""

from dataclasses import dataclass
from typing import ClassVar

from explainer.methods.lrp.base import AbstractLRP


@dataclass(frozen=True)
class AttnLRP(AbstractLRP):
    """Relevance of each word embedding for the objective L: sum_d e_id * dL/de_id under the AttnLRP rules.

    Settings as `AbstractLRP`: `gamma`, `checkpointing`.
    """

    name: ClassVar[str] = "attn_lrp"
    variant = "attn_lrp"
