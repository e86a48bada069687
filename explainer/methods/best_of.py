"""The best of several maps of a text, chosen by a metric on that very text: what the RPI and AML papers report.

Mostly selection: the best of 24 random maps is a row that every such table needs. Whatever is reported from here says
so in its label.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, TokenBatch
from explainer.faithfulness.measures import HIGHER_IS_BETTER, faithfulness
from explainer.typing import Scores, Target


def best_of(
    explained: ExplainedModel,
    batch: TokenBatch,
    target: Target,
    candidates: Float[Tensor, "candidates batch seq"],
    metric: str,
) -> Scores:
    """Each text's best candidate by `metric` (of `evaluation.ALL_METRICS`); the first of equal ones.

    Raises:
        ValueError: when there is no such metric.
    """
    if metric not in HIGHER_IS_BETTER:
        raise ValueError(f"`metric` must be one of {', '.join(HIGHER_IS_BETTER)}, got {metric!r}.")
    moved = batch.to("cpu")
    texts = [
        EncodedText("", None, row, scorable, (), (), ())
        for row, scorable in zip(moved.rows(), moved.split(moved.scorable), strict=True)
    ]
    scores = [row for maps in candidates.cpu() for row in moved.split(maps)]
    targets = target.cpu().repeat(len(candidates))
    found = faithfulness(explained, texts * len(candidates), scores, targets, (metric,))[metric]
    by_candidate = found.view(len(candidates), len(texts)) * (1 if HIGHER_IS_BETTER[metric] else -1)
    # Not `argmax`, which names any of equal ones.
    first = by_candidate.sort(dim=0, descending=True, stable=True).indices[0]
    return candidates[first.to(candidates.device), torch.arange(len(texts), device=candidates.device)]
