"""Agreement of scores with evidence that is known: generated texts and images say where theirs is."""

from explainer.typing import TokenMask, TokenScores


def hit_at_1(scores: TokenScores, evidence: TokenMask, ranked: TokenMask) -> float:
    """Hit@1: 1 where the highest score of the ranked tokens is at an evidence token, else 0.

    Of equal scores the first counts.

    Args:
        ranked: the tokens that may be the highest, at least one; what is explained, or asked, is left out.

    >>> import torch
    >>> scores, evidence = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([False, True, False])
    >>> hit_at_1(scores, evidence, torch.tensor([True, True, True]))
    0.0
    >>> hit_at_1(scores, evidence, torch.tensor([False, True, True]))
    1.0
    """
    places = ranked.nonzero()[:, 0]
    return float(evidence[places[scores[places].argsort(descending=True, stable=True)[0]]])
