"""Trust in the explanation of a response: the measured fall of its log-probability without the highest sources.

The highest fifth of the sources, and at least one, is deleted from the prompt and the response read again; beside it as
many random sources, several times, and all of them. Every variant of every response goes through one pooled prediction.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from explainer.attributor.trust import top_tokens
from explainer.explained import ExplainedModel, ExplainedResponse
from explainer.explanation import ResponseTrust
from explainer.faithfulness.responses import pooled_log_probabilities

DRAWS = 8
"""The random sets of sources that are deleted for comparison."""


def response_trusts(
    explained: ExplainedModel, responses: Sequence[ExplainedResponse], scores: Sequence[Sequence[float]]
) -> list[ResponseTrust]:
    """The trust in each explanation; that of one does not depend on the others.

    Args:
        scores: of the sources of each response.
    """
    masks = [_masks(of_one) for of_one in scores]
    values = pooled_log_probabilities(explained, responses, masks)
    found = []
    for response, of_one in zip(responses, values, strict=True):
        whole, top, nothing, *random = of_one.tolist()
        n = len(response.sources)
        found.append(
            ResponseTrust(
                k=min(n, top_tokens(n)),
                n_sources=n,
                drop=whole - top,
                random=whole - sum(random) / len(random),
                everything=whole - nothing,
                n_tokens=len(response.target_ids),
            )
        )
    return found


def _masks(scores: Sequence[float]) -> Bool[Tensor, "masks sources"]:
    """The sources that stay: all, all but the highest, none, all but random ones."""
    n = len(scores)
    k = min(n, top_tokens(n))
    kept = torch.ones(3 + DRAWS, n, dtype=torch.bool)
    kept[1, torch.tensor(scores, dtype=torch.float64).argsort(descending=True, stable=True)[:k]] = False
    kept[2] = False
    generator = np.random.default_rng(0)
    for row in kept[3:]:
        row[torch.from_numpy(generator.permutation(n)[:k].copy())] = False
    return kept
