"""KernelSHAP: Shapley values of the tokens by regression over random subsets.

Lundberg and Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017, theorem 2. The game's value of a
set of tokens is f_c(x with the other scorable tokens replaced by r). captum draws the subsets from the Shapley kernel
and weights the empty and the full one by 1e6, so that the scores sum to f_c(x) - f_c(all replaced). f_c is the target's
objective; where a text groups its tokens to units, units take the place of the tokens.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from explainer.extras import OptionalModule
from explainer.methods.captum.forward import TextForward
from explainer.methods.captum.least_squares import LeastSquares
from explainer.methods.captum.subsets import AbstractSubsetMethod

attr = OptionalModule("captum.attr")


@dataclass(frozen=True)
class KernelShap(AbstractSubsetMethod):
    """Shapley values of the target's objective, estimated.

    Args:
        n_samples: random subsets per text; with fewer than tokens the solution of least norm.
        seed: of the subsets; the same text gets the same subsets in any batch.
    """

    name: ClassVar[str] = "kernel_shap"
    operator: ClassVar[str | None] = "replace"
    complete: ClassVar[bool] = True
    n_samples: int = 200
    seed: int = 0

    def unit_scores(self, forward: TextForward) -> Tensor:
        if len(forward.units) == 1:  # one unit has the whole difference, and captum no kernel for it
            whole, empty = forward(torch.tensor([[1.0], [0.0]]))
            return (whole - empty)[None]
        return super().unit_scores(forward)

    def surrogate(self, forward: TextForward) -> Any:
        shap = attr.KernelShap(forward)
        shap.interpretable_model = LeastSquares(ridge=0.0)
        return shap
