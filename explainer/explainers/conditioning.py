"""Label conditioning: tells an explainer which class to explain.

AML (EMNLP Findings 2024), section 3: trainable embeddings E_c, one a class, and a shared E_0; the vector
sum_c w_c (E_c + E_0) joins the input right after the last token and is dropped again before the head. An explainer
that reads no text of its own adds the vector to its states instead.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from explainer.explained import ExplainedModel, TokenBatch
from explainer.typing import Embeddings


class LabelEmbedding(nn.Module):
    """E_c and E_0, and their place in a batch."""

    def __init__(self, classes: int, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.randn(classes, width) * scale)
        self.shared = nn.Parameter(torch.zeros(width))

    @classmethod
    def like_words(cls, explained: ExplainedModel) -> "LabelEmbedding":
        """As wide and as large as the explained model's word embeddings, among which it is to stand."""
        words = explained.embedding
        return cls(len(explained.labels), words.embedding_dim, words.weight.float().std().item())

    def forward(self, weights: Float[Tensor, "batch labels"]) -> Float[Tensor, "batch hidden"]:
        """sum_c w_c (E_c + E_0); the paper's mean differs by a constant factor, which the embeddings absorb."""
        return weights @ (self.classes + self.shared)

    def join(
        self, explained: ExplainedModel, batch: TokenBatch, weights: Float[Tensor, "batch labels"]
    ) -> tuple[TokenBatch, Callable[[Embeddings], Embeddings]]:
        """The batch with one column more, and the embedding edit that puts the label vectors into it.

        A text that fills the model to its maximum has no room for the extra position: there the vector takes the
        last token's place (in an encoder that is a special token).
        """
        longer, here = _with_place(batch, explained)
        vectors = self(weights)[:, None]

        def put(embeddings: Embeddings) -> Embeddings:
            return torch.where(here[..., None], vectors.to(embeddings.dtype), embeddings)

        return longer, put


def _with_place(batch: TokenBatch, explained: ExplainedModel) -> tuple[TokenBatch, Bool[Tensor, "batch longer"]]:
    """One column more, a placeholder token right after each row's last token, and the map of the placeholders.

    Padding lies on the right.
    """
    seq = batch.input_ids.shape[1]
    length = batch.attention_mask.sum(dim=1)
    limit = explained.text.max_tokens
    place = length if limit is None else length.clamp(max=limit - 1)
    here = torch.arange(seq + 1, device=place.device) == place[:, None]
    ids = F.pad(batch.input_ids, (0, 1), value=explained.tokenizer.pad_token_id)
    types = batch.token_type_ids
    longer = TokenBatch(
        input_ids=ids.masked_fill(here, explained.baseline_token_id),
        attention_mask=F.pad(batch.attention_mask, (0, 1)).masked_fill(here, 1),
        scorable=F.pad(batch.scorable, (0, 1)) & ~here,
        token_type_ids=None if types is None else F.pad(types, (0, 1)),
    )
    return longer, here
