"""LIME: a linear model of what replacing random subsets of the tokens does, near the text.

Ribeiro, Singh and Guestrin, "Why Should I Trust You?", KDD 2016:

    phi = argmin sum_m pi(z_m) (f_c(x with the tokens off in z_m replaced by r) - z_m . phi - b)^2 + ridge |phi|^2

pi(z) = exp(-D^2 / (2 width^2)), D = 1 - cos(z, 1) = 1 - sqrt(tokens left / tokens), as in the authors' package. f_c is
the target's objective; where a text groups its tokens to units, units take the place of the tokens.
"""

import math
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
class Lime(AbstractSubsetMethod):
    """Coefficients of LIME's weighted ridge regression, each token on with probability 1/2.

    Args:
        n_samples: random subsets per text.
        kernel_width: width of the similarity kernel over cosine distance; a large one weights all subsets alike.
        ridge: strength of the pull to zero.
        seed: of the subsets; the same text gets the same subsets in any batch.
    """

    name: ClassVar[str] = "lime"
    operator: ClassVar[str | None] = "replace"
    n_samples: int = 200
    kernel_width: float = 0.25
    ridge: float = 1.0
    seed: int = 0

    def surrogate(self, forward: TextForward) -> Any:
        return attr.Lime(forward, interpretable_model=LeastSquares(self.ridge), similarity_func=self._similarity)

    def _similarity(self, text: Tensor, perturbed: Tensor, presence: Tensor, **_: Any) -> Tensor:
        distance = 1 - math.sqrt(float(presence.float().mean()))
        return torch.tensor([math.exp(-(distance**2) / (2 * self.kernel_width**2))])
