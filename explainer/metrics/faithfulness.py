"""Faithfulness from probabilities alone: comprehensiveness, sufficiency, log-odds and their areas.

DeYoung et al., ERASER, ACL 2020 (comprehensiveness and sufficiency, and their areas over the perturbation curve);
Shrikumar et al. 2017 (log-odds). Every function gives one value per text; every class is its mean over texts.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.metrics.base import MeanOverTexts

PerText = Float[Tensor, " n"]
Perturbed = Float[Tensor, "n percents"]


def comprehensiveness(whole: PerText, removed: PerText) -> PerText:
    """p(whole text) - p(top tokens deleted): high when the tokens were needed.

    >>> comprehensiveness(torch.tensor([0.9]), torch.tensor([0.25]))
    tensor([0.6500])
    """
    return whole - removed


def sufficiency(whole: PerText, kept: PerText) -> PerText:
    """p(whole text) - p(top tokens alone): low when the tokens are enough, negative when p is higher without the rest.

    >>> sufficiency(torch.tensor([0.5]), torch.tensor([0.75]))
    tensor([-0.2500])
    """
    return whole - kept


def log_odds(whole: PerText, replaced: PerText) -> PerText:
    """ln p(top tokens replaced by the baseline token) - ln p(whole text): low when the tokens were needed.

    >>> log_odds(torch.tensor([1.0]), torch.tensor([0.5]))
    tensor([-0.6931])
    """
    tiny = torch.finfo(whole.dtype).tiny
    return replaced.clamp(min=tiny).log() - whole.clamp(min=tiny).log()


def aopc(whole: PerText, perturbed: Perturbed) -> PerText:
    """Sum of the falls of the probability (or of a value) over the percents, divided by their number plus one.

    The divisor counts the unperturbed text (k = 0), as in the papers.

    >>> aopc(torch.tensor([1.0]), torch.tensor([[1.0, 0.5, 0.5, 0.0, 0.0]]))
    tensor([0.5000])
    """
    return (whole[:, None] - perturbed).sum(dim=1) / (perturbed.shape[1] + 1)


class Comprehensiveness(MeanOverTexts):
    """Mean of `comprehensiveness` over texts; update(whole, removed)."""

    higher_is_better = True
    function = staticmethod(comprehensiveness)


class Sufficiency(MeanOverTexts):
    """Mean of `sufficiency` over texts; update(whole, kept)."""

    higher_is_better = False
    function = staticmethod(sufficiency)


class LogOdds(MeanOverTexts):
    """Mean of `log_odds` over texts; update(whole, replaced)."""

    higher_is_better = False
    function = staticmethod(log_odds)


class AOPCComprehensiveness(MeanOverTexts):
    """Mean over texts of the area under comprehensiveness; update(whole, removed (n, percents))."""

    higher_is_better = True
    function = staticmethod(aopc)


class AOPCSufficiency(MeanOverTexts):
    """Mean over texts of the area under sufficiency; update(whole, kept (n, percents))."""

    higher_is_better = False
    function = staticmethod(aopc)
