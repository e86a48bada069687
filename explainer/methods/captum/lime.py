"""LIME: a linear model of what replacing random subsets of the tokens does, near the text.

Ribeiro, Singh and Guestrin, "Why Should I Trust You?", KDD 2016:

    phi = argmin sum_m pi(z_m) (f_c(x with the tokens off in z_m replaced by r) - z_m . phi - b)^2 + ridge |phi|^2

pi(z) = exp(-D^2 / (2 width^2)), D = 1 - cos(z, 1) = 1 - sqrt(tokens left / tokens), as in the authors' package.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from captum import attr
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.base import AbstractMethod
from explainer.methods.captum.forward import TextForward, over_subsets, text_by_text
from explainer.methods.captum.least_squares import LeastSquares
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class Lime(AbstractMethod):
    """Coefficients of LIME's weighted ridge regression, each token on with probability 1/2.

    Args:
        n_samples: random subsets a text.
        kernel_width: width of the similarity kernel over cosine distance; a large one weights all subsets alike.
        ridge: strength of the pull to zero.
        seed: of the subsets; the same text gets the same subsets in any batch.
    """

    name: ClassVar[str] = "lime"
    n_samples: int = 200
    kernel_width: float = 0.25
    ridge: float = 1.0
    seed: int = 0

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        return text_by_text(explained, batch, target, self._text)

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(self.n_samples)

    def _text(self, forward: TextForward, target: int) -> Tensor:
        lime = attr.Lime(forward, interpretable_model=LeastSquares(self.ridge), similarity_func=self._similarity)
        return over_subsets(lime, forward, target, self.n_samples, self.seed)

    def _similarity(self, text: Tensor, perturbed: Tensor, presence: Tensor, **_: Any) -> Tensor:
        distance = 1 - math.sqrt(float(presence.float().mean()))
        return torch.tensor([math.exp(-(distance**2) / (2 * self.kernel_width**2))])
