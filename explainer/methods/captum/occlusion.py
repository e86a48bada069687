"""Occlusion: what replacing a window of neighbouring tokens does (Zeiler and Fergus, ECCV 2014)."""

from dataclasses import dataclass
from typing import ClassVar

from captum import attr
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch
from explainer.methods.base import AbstractMethod
from explainer.methods.captum.forward import TextForward, text_by_text
from explainer.typing import Scores, Target


@dataclass(frozen=True)
class Occlusion(AbstractMethod):
    """f_c(x) - f_c(x with a window of scorable tokens replaced by r), averaged over the windows that hold the token.

    Args:
        window: tokens replaced together; 1 gives exact SIG.
    """

    name: ClassVar[str] = "occlusion"
    window: int = 2

    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        return text_by_text(explained, batch, target, self._text)

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(max(n_scorable - self.window + 1, 1)) + 1.0

    def _text(self, forward: TextForward, target: int) -> Tensor:
        n = forward.ids.shape[1]
        return attr.Occlusion(forward).attribute(
            forward.ids,
            sliding_window_shapes=(min(self.window, n),),
            baselines=forward.explained.baseline_token_id,
            target=target,
            perturbations_per_eval=n,
        )[0]
