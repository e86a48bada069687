"""AOPC as a share of the range between the lowest and the highest that any order of the text's tokens reaches.

Edin et al., Normalized AOPC: Fixing Misleading Faithfulness Metrics for Feature Attribution Explainability, ACL 2025.
How far a probability can fall differs between texts and models. Shares of that range can be compared.
"""

import torch

from explainer.metrics.base import MeanOverDefined
from explainer.metrics.faithfulness import PerText

SMALLEST_SPAN = 1e-5  # below it, rounding of single-precision probabilities would decide the quotient


def normalised_aopc(aopc: PerText, lower: PerText, upper: PerText) -> PerText:
    """(AOPC - lower) / (upper - lower); NaN where no order makes a difference, as with one token.

    0 is the worst order and 1 the best. A value outside means that the search of the bounds was too narrow.

    >>> normalised_aopc(torch.tensor([0.3, 0.2]), torch.tensor([0.1, 0.2]), torch.tensor([0.5, 0.2]))
    tensor([0.5000,    nan])
    """
    span = upper - lower
    return ((aopc - lower) / span).where(span > SMALLEST_SPAN, torch.nan)


class NormalisedAOPC(MeanOverDefined):
    """Mean of `normalised_aopc` over the texts where it is defined; update(aopc, lower, upper)."""

    higher_is_better = True
    function = staticmethod(normalised_aopc)
