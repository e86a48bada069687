"""The area between the curves of removing the least and the most relevant tokens first.

Achtibat et al., AttnLRP, ICML 2024 (after Bach et al. 2015, pixel flipping): for good scores, the target's logit falls
early under most-relevant-first (MoRF) removal and late under least-relevant-first (LeRF) removal. Adding a constant to
all logits leaves the difference of the two areas as it is. It is 0 for scores that are all equal.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.metrics.base import MeanOverTexts
from explainer.metrics.faithfulness import PerText

LogitCurve = Float[Tensor, "n points"]


def morf_lerf_area(most_first: LogitCurve, least_first: LogitCurve) -> PerText:
    """Area of LeRF minus area of MoRF over the share of tokens removed, 0 to 1, by trapezoids; in logits.

    Both curves start at the whole text and have equally spaced shares. They meet at both ends, so that the area is also
    the mean difference over all points but the first.

    >>> morf_lerf_area(torch.tensor([[3.0, 1.0, 0.0]]), torch.tensor([[3.0, 2.0, 0.0]]))
    tensor([0.5000])
    """
    return torch.trapezoid(least_first - most_first, dx=1 / (most_first.shape[1] - 1), dim=1)


class MoRFLeRFArea(MeanOverTexts):
    """Mean of `morf_lerf_area` over texts; update(most_first (n, points), least_first (n, points))."""

    higher_is_better = True
    function = staticmethod(morf_lerf_area)
