"""CP-LRP: relevance propagation with constant attention weights, which conserves it.

Ali et al., XAI for Transformers: Better Explanations through Conservative Propagation, ICML 2022; as a variant of
AttnLRP's rules in Achtibat et al., ICML 2024: query and key are detached, all relevance goes through the values.
"""

from dataclasses import dataclass
from typing import ClassVar

from explainer.methods.lrp.base import AbstractLRP


@dataclass(frozen=True)
class CPLRP(AbstractLRP):
    """Relevance of each word embedding for the objective L: sum_d e_id * dL/de_id under the CP-LRP rules.

    Settings as `AbstractLRP`: `gamma`, `checkpointing`.
    """

    name: ClassVar[str] = "cp_lrp"
    variant = "cp_lrp"
