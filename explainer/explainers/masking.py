"""The soft mask of AML: embeddings blended with that of the baseline token, so that a mask can be trained."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from explainer.explained import TokenBatch
from explainer.typing import Embeddings


def blend(
    batch: TokenBatch, amounts: Float[Tensor, "batch seq"], baseline: Float[Tensor, " hidden"]
) -> Callable[[Embeddings], Embeddings]:
    """The embedding edit keep(a)_i = e_r + a_i (e_i - e_r); tokens that are not scorable are kept whole.

    AML (EMNLP Findings 2024), section 3. Pass the result to `ExplainedModel.forward(batch, edit=...)`.
    """
    whole = torch.where(batch.scorable, amounts, 1.0)[..., None]

    def edit(embeddings: Embeddings) -> Embeddings:
        return baseline + whole.to(embeddings.dtype) * (embeddings - baseline)

    return edit
