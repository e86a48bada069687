"""The metrics of the Mask-LRP paper: areas over the removal of all tokens, and the precision on answer tokens.

Song et al., Better Explain Transformers by Illuminating Important Information, EACL Findings 2024. The top
tokens are replaced by the baseline token, at 1/9, 2/9 ... 9/9 of them. The divisor is the number of steps, nine, while
`faithfulness.aopc` counts the unperturbed text as well.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.metrics.base import MeanOverDefined, MeanOverTexts
from explainer.metrics.faithfulness import PerText, Perturbed, log_odds
from explainer.typing import RaggedMasks, RaggedScores, TokenMask, TokenScores


def mask_lrp_aopc(whole: PerText, replaced: Perturbed) -> PerText:
    """Mean fall of the probability over the steps: high when the tokens were needed.

    >>> mask_lrp_aopc(torch.tensor([1.0]), torch.tensor([[0.75, 0.5, 0.25]]))
    tensor([0.5000])
    """
    return (whole[:, None] - replaced).mean(dim=1)


def mask_lrp_log_odds(whole: PerText, replaced: Perturbed) -> PerText:
    """Mean over the steps of ln p(replaced) - ln p(whole text): low when the tokens were needed.

    >>> mask_lrp_log_odds(torch.tensor([1.0]), torch.tensor([[1.0, 0.5]]))
    tensor([-0.3466])
    """
    return torch.stack([log_odds(whole, step) for step in replaced.unbind(dim=1)], dim=1).mean(dim=1)


def answer_precision(scores: TokenScores, answer: TokenMask, scorable: TokenMask, k: int = 20) -> Float[Tensor, ""]:
    """Share of the answer's tokens that are among the `k` scorable ones of the highest scores; NaN without an answer.

    The paper's precision@20, which divides by the answer's length. Ties go to the earlier token.

    Args:
        answer: the gold answer's tokens.

    >>> every = torch.ones(4, dtype=torch.bool)
    >>> answer_precision(torch.tensor([0.1, 0.4, 0.3, 0.2]), torch.tensor([False, True, False, True]), every, k=2)
    tensor(0.5000)
    """
    positions = scorable.nonzero()[:, 0]
    highest = positions[scores[positions].argsort(descending=True, stable=True)[:k]]
    return answer[highest].sum() / answer.sum()


def _answer_precisions(scores: RaggedScores, answers: RaggedMasks, scorable: RaggedMasks, k: int = 20) -> PerText:
    triples: Sequence[tuple[Tensor, Tensor, Tensor]] = list(zip(scores, answers, scorable, strict=True))
    return torch.stack([answer_precision(*triple, k) for triple in triples])


class MaskLRPAOPC(MeanOverTexts):
    """Mean of `mask_lrp_aopc` over texts; update(whole, replaced (n, steps))."""

    higher_is_better = True
    function = staticmethod(mask_lrp_aopc)


class MaskLRPLogOdds(MeanOverTexts):
    """Mean of `mask_lrp_log_odds` over texts; update(whole, replaced (n, steps))."""

    higher_is_better = False
    function = staticmethod(mask_lrp_log_odds)


class AnswerPrecision(MeanOverDefined):
    """Mean of `answer_precision` at 20 over texts with an answer; update(scores, answers, scorable), lists by text."""

    higher_is_better = True
    function = staticmethod(_answer_precisions)
