"""KernelSHAP: Shapley values of the tokens by regression over random subsets.

Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017, theorem 2. The game's value of a
set of tokens is f_c(x with the other scorable tokens replaced by r). captum draws the subsets from the Shapley kernel
and weights the empty and the full one by 1e6, so that the scores sum to f_c(x) - f_c(all replaced).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from captum import attr
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.base import AbstractMethod
from explainer.methods.captum.forward import TextForward, over_subsets, text_by_text
from explainer.methods.captum.least_squares import LeastSquares
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class KernelShap(AbstractMethod):
    """Shapley values of the target's logit, estimated.

    Args:
        n_samples: random subsets a text; with fewer than tokens the solution of least norm.
        seed: of the subsets; the same text gets the same subsets in any batch.
    """

    name: ClassVar[str] = "kernel_shap"
    complete: ClassVar[bool] = True
    n_samples: int = 200
    seed: int = 0

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        return text_by_text(explained, batch, target, self._text)

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(self.n_samples)

    def _text(self, forward: TextForward, target: int) -> Tensor:
        if forward.ids.shape[1] == 1:  # one token has the whole difference, and captum no kernel for it
            whole, empty = forward.present(torch.tensor([[1.0], [0.0]]))[:, target]
            return (whole - empty)[None]
        shap = attr.KernelShap(forward)
        shap.interpretable_model = LeastSquares(ridge=0.0)
        return over_subsets(shap, forward, target, self.n_samples, self.seed)
