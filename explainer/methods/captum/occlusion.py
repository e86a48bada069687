"""Occlusion: what replacing a window of neighbouring tokens does (Zeiler and Fergus, ECCV 2014)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from explainer.extras import OptionalModule
from explainer.methods.captum.forward import TextForward
from explainer.methods.captum.subsets import AbstractPresenceMethod

attr = OptionalModule("captum.attr")


@dataclass(frozen=True)
class Occlusion(AbstractPresenceMethod):
    """objective(x) - objective(x with a window of scorable units replaced by r), averaged over a unit's windows.

    Args:
        window: units replaced together (tokens, unless the text groups them); 1 gives exact SIG.
    """

    name: ClassVar[str] = "occlusion"
    operator: ClassVar[str | None] = "replace"
    window: int = 2

    def unit_scores(self, forward: TextForward) -> Tensor:
        n = len(forward.units)
        return attr.Occlusion(forward).attribute(
            forward.whole, sliding_window_shapes=(min(self.window, n),), baselines=0, perturbations_per_eval=n
        )[0]

    def forward_equivalents(self, n_scorable: int) -> float:
        return float(max(n_scorable - self.window + 1, 1)) + 1.0
