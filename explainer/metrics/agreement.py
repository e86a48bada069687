"""Agreement of two attributions of one text: rank correlations, and the overlap of the highest tokens."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics.functional import kendall_rank_corrcoef, spearman_corrcoef

from explainer.typing import TokenScores

Value = Float[Tensor, ""]


def spearman(scores: TokenScores, reference: TokenScores) -> Value:
    """Spearman's rank correlation; NaN for fewer than two tokens or where one side is constant.

    >>> round(spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 20.0, 30.0])).item(), 4)
    1.0
    """
    if _undefined(scores, reference):
        return torch.tensor(torch.nan)
    return spearman_corrcoef(scores.float(), reference.float())


def kendall(scores: TokenScores, reference: TokenScores) -> Value:
    """Kendall's tau-b; NaN for fewer than two tokens or where one side is constant.

    >>> kendall(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([3.0, 2.0, 1.0]))
    tensor(-1.)
    """
    if _undefined(scores, reference):
        return torch.tensor(torch.nan)
    return torch.as_tensor(kendall_rank_corrcoef(scores.float(), reference.float()))


def top_k_overlap(scores: TokenScores, reference: TokenScores, percent: float = 20.0) -> Value:
    """Share of the reference's k highest tokens that are among the k highest here.

    k = max(1, floor(n * percent / 100)); NaN for no tokens.

    >>> top_k_overlap(torch.tensor([3.0, 2.0, 1.0, 0.0]), torch.tensor([3.0, 0.0, 2.0, 1.0]), percent=50.0)
    tensor(0.5000)
    """
    if len(scores) == 0:
        return torch.tensor(torch.nan)
    k = max(1, int(len(scores) * percent / 100))
    highest, expected = (values.argsort(descending=True, stable=True)[:k] for values in (scores, reference))
    return torch.isin(highest, expected).float().mean()


def _undefined(scores: Tensor, reference: Tensor) -> bool:
    return len(scores) < 2 or bool((scores == scores[0]).all()) or bool((reference == reference[0]).all())
