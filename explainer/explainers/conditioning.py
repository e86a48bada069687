"""Conditioning: tells an explainer which target to explain, by a vector per text.

AML (EMNLP Findings 2024), section 3: trainable embeddings E_c, one per class, and a shared E_0; the vector
sum_c w_c (E_c + E_0) joins the input right after the last token and is dropped again before the head. An explainer
that embeds no text of its own adds the vector to its states instead.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from explainer.explained import ExplainedModel, Target, TokenBatch
from explainer.typing import Embeddings


class AbstractConditioning(nn.Module, ABC):
    """The trained vectors that stand for targets, and their place in a batch."""

    @abstractmethod
    def forward(self, target: Target) -> Float[Tensor, "batch hidden"]:
        """The vector of each text's target.

        Raises:
            ValueError: when the explainer cannot be asked for such a target.
        """

    def join(
        self, reader: ExplainedModel, batch: TokenBatch, target: Target
    ) -> tuple[TokenBatch, Callable[[Embeddings], Embeddings]]:
        """The batch with one column more, and the embedding edit that puts the vectors into it.

        A text that fills the model to its maximum has no room for the extra position: there the vector takes the
        last token's place (in an encoder that is a special token).

        Args:
            reader: the model whose backbone reads the batch.
            batch: right-padded.
        """
        longer, placeholder = _with_placeholder(batch, reader)
        vectors = self(target)[:, None]

        def put(embeddings: Embeddings) -> Embeddings:
            return torch.where(placeholder[..., None], vectors.to(embeddings.dtype), embeddings)

        return longer, put


class ClassConditioning(AbstractConditioning):
    """E_c and E_0: an explainer of a closed list of classes, asked for the logit of one of them."""

    def __init__(self, classes: int, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.randn(classes, width) * scale)
        self.shared = nn.Parameter(torch.zeros(width))

    @classmethod
    def like_words(cls, reader: ExplainedModel, classes: int) -> "ClassConditioning":
        """Vectors as wide and as large as a model's word embeddings, which they join."""
        words = reader.embedding
        return cls(classes, words.embedding_dim, words.weight.float().std().item())

    def forward(self, target: Target) -> Float[Tensor, "batch hidden"]:
        # The paper's mean over classes differs by a constant factor, which the embeddings absorb.
        return self.one_hot(target) @ (self.classes + self.shared)

    def one_hot(self, target: Target) -> Float[Tensor, "batch labels"]:
        """w of each text: 1 for the target's class, 0 for the others.

        Raises:
            ValueError: when the target is not the logit of one class.
        """
        if (unknown := _beyond_one_logit(target)) is not None:
            raise ValueError(
                f"A trained explainer has learned the logits of single classes, and the target asks for {unknown}: "
                "leave `foil` and `score` out, or take a method that runs the explained model, such as `attn_lrp` or "
                "`sig`."
            )
        return F.one_hot(target.classes, len(self.classes)).to(self.classes.dtype)


def _beyond_one_logit(target: Target) -> str | None:
    """What a target asks for in addition to the logit of one class; None where that is all."""
    if target.choices.shape[1] != 1:
        return f"{target.choices.shape[1]} questions at once"
    if target.foil is not None:
        return "a contrast with a foil"
    return None if target.score == "logit" else f"`score` {target.score!r}"


def _with_placeholder(batch: TokenBatch, reader: ExplainedModel) -> tuple[TokenBatch, Bool[Tensor, "batch longer"]]:
    """The right-padded batch with a placeholder after each text's last token, and the mask of the placeholders."""
    seq = batch.input_ids.shape[1]
    length = batch.attention_mask.sum(dim=1)
    limit = reader.text.max_tokens
    place = length if limit is None else length.clamp(max=limit - 1)
    placeholder = torch.arange(seq + 1, device=place.device) == place[:, None]
    ids = F.pad(batch.input_ids, (0, 1), value=reader.tokenizer.pad_token_id)
    types = batch.token_type_ids
    longer = TokenBatch(
        input_ids=ids.masked_fill(placeholder, reader.baseline_token_id),
        attention_mask=F.pad(batch.attention_mask, (0, 1)).masked_fill(placeholder, 1),
        scorable=F.pad(batch.scorable, (0, 1)) & ~placeholder,
        token_type_ids=None if types is None else F.pad(types, (0, 1)),
        hidden=None if batch.hidden is None else F.pad(batch.hidden, (0, 1)),
    )
    if torch.compiler.is_exporting() or limit is None or seq < limit:
        return longer, placeholder
    return longer.columns(limit), placeholder[:, :limit]  # no text needs the extra position
