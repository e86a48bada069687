"""The completeness gap: how far scores are from summing to what they promise.

Sundararajan et al. 2017, axiom of completeness; Lundberg and Lee 2017, local accuracy.
"""

from jaxtyping import Float
from torch import Tensor

PerText = Float[Tensor, " n"]


def completeness_gap(total: PerText, promised: PerText) -> PerText:
    """|sum of the scores - what they should sum to| per text: 0 for a complete method.

    Args:
        total: the sum of the scores.
        promised: f(x) - f(every scorable token replaced by the baseline token).

    >>> import torch
    >>> completeness_gap(torch.tensor([1.5]), torch.tensor([2.0]))
    tensor([0.5000])
    """
    return (total - promised).abs()
