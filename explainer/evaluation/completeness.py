"""The completeness gap of a method: how far its scores are from summing to what they promise."""

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import Attributions, ExplainedModel
from explainer.methods.base import AbstractMethod
from explainer.metrics.completeness import completeness_gap as gap_between


def completeness_gap(
    method: AbstractMethod, explained: ExplainedModel, attributions: Attributions
) -> Float[Tensor, " n"]:
    """|sum of the scores - (f(x) - f(every scorable token replaced by the baseline token))| per text.

    f is the objective that the target explains: its logit, or its score less its foil's.

    Args:
        method: gave the attributions.

    Raises:
        ValueError: when the method promises no sum.
    """
    if not method.complete:
        raise ValueError(
            f"`method` {method.name!r} does not promise that its scores sum to anything, so it has no completeness gap."
        )
    whole = [text.tokens for text in attributions.texts]
    empty = [text.tokens.replaced(text.scorable, explained.baseline_token_id) for text in attributions.texts]
    objective = explained.evaluate([*whole, *empty], attributions.target.repeat(2)).objective
    total = torch.stack([scores.sum() for scores in attributions.scores]).to(objective.dtype)
    return gap_between(total, objective[: len(whole)] - objective[len(whole) :])
