"""The completeness gap: how far scores are from summing to what they promise.

Sundararajan et al. 2017, axiom of completeness; Lundberg and Lee 2017, local accuracy.
"""

from jaxtyping import Float
from torch import Tensor

PerText = Float[Tensor, " n"]


def completeness_gap(total: PerText, promised: PerText) -> PerText:
    """|sum of a text's scores - (f_c(x) - f_c(all scorable tokens replaced))|, in logits: 0 for a complete method.

    >>> import torch
    >>> completeness_gap(torch.tensor([1.5]), torch.tensor([2.0]))
    tensor([0.5000])
    """
    return (total - promised).abs()
