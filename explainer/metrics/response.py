"""Metrics of a language model's response, from its log-probability while sources of the prompt are taken away.

l(v) = sum over the target's tokens of ln p(token | the prompt's sources where v is 1, the response before it)
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from explainer.metrics.agreement import spearman
from explainer.metrics.base import MeanOverDefined, MeanOverTexts


def drop(whole: Float[Tensor, " n"], without_top: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """drop@k = l(all) - l(all without the k highest sources), in nats; higher is better.

    >>> drop(torch.tensor([-1.0]), torch.tensor([-3.5]))
    tensor([2.5000])
    """
    return whole - without_top


def gain(nothing: Float[Tensor, " n"], only_top: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """gain@k = l(only the k highest sources) - l(none), in nats; higher is better.

    >>> gain(torch.tensor([-6.0]), torch.tensor([-2.0]))
    tensor([4.])
    """
    return only_top - nothing


def lds(
    kept: Bool[Tensor, "masks sources"], values: Float[Tensor, " masks"], scores: Float[Tensor, " sources"]
) -> float:
    """The linear datamodelling score: Spearman's correlation over masks of l(v) with sum_i v_i score_i.

    With masks of equal size a constant map predicts the same of each: it counts 0. So does a response whose
    log-probability no mask changes.

    Args:
        kept: the sources that each mask keeps.
        values: l of each mask.

    Returns:
        A number between -1 and 1; NaN where there are fewer than two masks.

    >>> kept = torch.tensor([[True, False], [False, True]])
    >>> round(lds(kept, torch.tensor([-1.0, -2.0]), torch.tensor([3.0, 1.0])), 4)
    1.0
    """
    if len(values) < 2:
        return math.nan
    predicted = kept.double() @ scores.double()
    # Sums that differ by rounding only are tied.
    steps = (predicted * (1e7 / predicted.abs().max().clamp(min=1e-300))).round()
    return float(spearman(values.double(), steps).nan_to_num(0.0))


def rise(values: Float[Tensor, " points"]) -> float:
    """The area under the normalised fall of l while groups of sources are taken away, the highest first.

        n_i = clip((l_i - l_last) / |l_0 - l_last|, 0, 1), its running minimum, by the trapezoid rule over [0, 1].

    Args:
        values: l of the whole prompt, then after each group.

    Returns:
        Between 0 and 1, lower is better; NaN where taking everything away changes nothing.

    >>> rise(torch.tensor([0.0, -4.0, -4.0]))
    0.25
    """
    return float(_area(_fall(values)))


def mas(values: Float[Tensor, " points"], shares: Float[Tensor, " groups"]) -> float:
    """The area of `rise`, with a penalty |n_i - d_i| where the scores promise another fall than the model shows.

    d_i = 1 - the share of the positive scores that the groups up to i hold; 1 throughout where no score is positive.

    Args:
        values: l of the whole prompt, then after each group.
        shares: the sum of the positive scores in each group.

    Returns:
        Between 0 and 2, lower is better; NaN where taking everything away changes nothing.

    >>> mas(torch.tensor([0.0, -4.0, -4.0]), torch.tensor([1.0, 1.0]))
    0.5
    """
    total = shares.double().sum()
    held = shares.double().cumsum(0) / total if total > 0 else torch.zeros(len(shares), dtype=torch.float64)
    promised = 1 - torch.cat([torch.zeros(1, dtype=torch.float64), held])
    fall = _fall(values)
    return float(_area(fall + (fall - promised).abs()))


def _fall(values: Float[Tensor, " points"]) -> Float[Tensor, " points"]:
    values = values.double()
    span = (values[0] - values[-1]).abs()
    if not span > 0:
        return torch.full_like(values, math.nan)
    # The first is 1 or clipped to 0, and so the running minimum is never above 1.
    return ((values - values[-1]) / span).clamp(min=0).cummin(dim=0).values


def _area(curve: Float[Tensor, " points"]) -> Tensor:
    """By the trapezoid rule over [0, 1]."""
    return (curve.sum() - (curve[0] + curve[-1]) / 2) / (len(curve) - 1)


class Drop(MeanOverTexts):
    """Mean of `drop` over responses."""

    higher_is_better = True
    function = staticmethod(drop)


class Gain(MeanOverTexts):
    """Mean of `gain` over responses."""

    higher_is_better = True
    function = staticmethod(gain)


class _MeanOfEach(MeanOverDefined):
    """Mean of a function of one response; `update` takes a list, one entry per response, for each of its arguments."""

    of_one: Any = None

    @classmethod
    def function(cls, *arguments: Sequence[Any]) -> Tensor:
        return torch.tensor([cls.of_one(*one) for one in zip(*arguments, strict=True)], dtype=torch.float64)


class LDS(_MeanOfEach):
    """Mean of `lds` over the responses with two masks or more."""

    higher_is_better = True
    of_one = staticmethod(lds)


class RISE(_MeanOfEach):
    """Mean of `rise` over the responses that their sources change."""

    higher_is_better = False
    of_one = staticmethod(rise)


class MAS(_MeanOfEach):
    """Mean of `mas` over the responses that their sources change."""

    higher_is_better = False
    of_one = staticmethod(mas)
