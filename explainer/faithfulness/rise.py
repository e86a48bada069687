"""Deletion and insertion: the target's probability while patches become grey, or come back, by rank.

Petsiuk, Das and Saenko, RISE: Randomized Input Sampling for Explanation of Black-box Models, BMVC 2018, section 4.2.
They apply to tokens of texts likewise, with the baseline token in the place of grey.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import Attributions, ExplainedModel
from explainer.faithfulness.curves import Perturbation, curves, top_count
from explainer.faithfulness.perturbation import Operator

SHARES = tuple(float(percent) for percent in range(0, 101, 10))
"""The percents of the patches at which the curves are measured."""


@dataclass(frozen=True)
class RiseCurves:
    """The probability of the target at each share of the patches, the highest scores first.

    Attributes:
        percents: of the patches, from 0 to 100.
        deletion: while these are taken out: it falls fast when they were needed.
        insertion: while these come back, into the image without any: it rises fast when they are enough.
    """

    percents: tuple[float, ...]
    deletion: Float[Tensor, "n points"]
    insertion: Float[Tensor, "n points"]

    @property
    def deletion_area(self) -> Float[Tensor, " n"]:
        """The area under deletion, per image, from 0 to 1; lower is better."""
        return self._area(self.deletion)

    @property
    def insertion_area(self) -> Float[Tensor, " n"]:
        """The area under insertion, per image, from 0 to 1; higher is better."""
        return self._area(self.insertion)

    def _area(self, curve: Tensor) -> Tensor:
        return torch.trapezoid(curve, torch.tensor(self.percents, dtype=curve.dtype) / 100)


def rise_curves(
    explained: ExplainedModel,
    attributions: Attributions,
    percents: tuple[float, ...] = SHARES,
    operator: Operator = "replace",
) -> RiseCurves:
    """Run every image through the model while its patches are taken out, and while they come back.

    Args:
        percents: of the patches, rising from 0 to 100.
        operator: how patches are taken out: `replace` makes them grey.

    Raises:
        ValueError: when `percents` do not rise from 0 to 100, or the model predicts values (a regression).
    """
    if percents[:1] != (0.0,) or percents[-1:] != (100.0,) or list(percents) != sorted(set(percents)):
        raise ValueError(f"`percents` must rise from 0 to 100, got {percents}.")
    top, rest = Perturbation(operator, "top"), Perturbation(operator, "rest")
    measured = curves(explained, attributions, {top: percents, rest: percents})
    deletion, insertion = measured.probability(top), measured.probability(rest)
    # Curves perturb nothing where the share is less than one patch; nothing has come back there.
    none = torch.tensor(
        [[not top_count(text.n_scorable, percent) for percent in percents] for text in attributions.texts]
    )
    return RiseCurves(percents, deletion, torch.where(none, deletion[:, -1:], insertion))
