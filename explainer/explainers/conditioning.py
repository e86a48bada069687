"""Conditioning: tells an explainer which target to explain, by a vector per text, or by vectors at marked tokens.

AML (EMNLP Findings 2024), section 3: trainable embeddings E_c, one per class, and a shared E_0; the vector
sum_c w_c (E_c + E_0) joins the input right after the last token and is dropped again before the head. An explainer
that embeds no text of its own adds the vector to its states instead. Where the target is about tokens of the text, an
entity or the answer to a question, a vector is added at these tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from explainer.explained import ExplainedModel, Target, TokenBatch
from explainer.explained.tasks.anchored import AbstractAnchoredTask
from explainer.typing import Embeddings


class AbstractConditioning(nn.Module, ABC):
    """The trained vectors that stand for targets, and their place in a batch.

    Attributes:
        outputs: the scores per token that the explainer's head gives, of which `chosen` takes the target's.
    """

    outputs: int
    shared: nn.Parameter

    @abstractmethod
    def added(self, batch: TokenBatch, target: Target) -> Float[Tensor, "batch _ hidden"]:
        """What is added to the states (batch, seq, hidden) of a right-padded batch.

        Raises:
            ValueError: when the explainer cannot be asked for such a target.
        """

    @abstractmethod
    def chosen(self, scores: Float[Tensor, "batch seq outputs"], target: Target) -> Float[Tensor, "batch seq"]:
        """The scores for the target."""

    @abstractmethod
    def join(
        self, reader: ExplainedModel, batch: TokenBatch, target: Target
    ) -> tuple[TokenBatch, Callable[[Embeddings], Embeddings]]:
        """The batch as a backbone reads it, maybe with one column more, and the embedding edit that tells the target.

        Args:
            reader: the model whose backbone reads the batch.
            batch: right-padded.
        """


def conditioning_of(explained: ExplainedModel, width: int, scale: float = 1.0) -> AbstractConditioning:
    """The conditioning of an explainer of this model.

    Args:
        width: of the vectors.
        scale: standard deviation of the first weights.
    """
    if isinstance(explained.task, AbstractAnchoredTask):
        return AnchorConditioning(explained.task, width, scale)
    return ClassConditioning(len(explained.labels), width, scale)


def like_words(explained: ExplainedModel, reader: ExplainedModel) -> AbstractConditioning:
    """The same with vectors as wide and as large as the word embeddings of a model, which they join."""
    words = reader.embedding
    return conditioning_of(explained, words.embedding_dim, words.weight.float().std().item())


class ClassConditioning(AbstractConditioning):
    """E_c and E_0: an explainer of a closed list of classes, asked for the logit of one of them."""

    def __init__(self, classes: int, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.outputs = classes
        self.classes = nn.Parameter(torch.randn(classes, width) * scale)
        self.shared = nn.Parameter(torch.zeros(width))

    def forward(self, target: Target) -> Float[Tensor, "batch hidden"]:
        """The vector of each text's target."""
        # The paper's mean over classes differs by a constant factor, which the embeddings absorb.
        return self.one_hot(target) @ (self.classes + self.shared)

    def added(self, batch: TokenBatch, target: Target) -> Float[Tensor, "batch _ hidden"]:
        return self(target)[:, None]

    def chosen(self, scores: Float[Tensor, "batch seq outputs"], target: Target) -> Float[Tensor, "batch seq"]:
        return (scores @ self.one_hot(target)[..., None].to(scores.dtype))[..., 0]

    def join(
        self, reader: ExplainedModel, batch: TokenBatch, target: Target
    ) -> tuple[TokenBatch, Callable[[Embeddings], Embeddings]]:
        """The vectors at one position more.

        A text that fills the model to its maximum has no room for it: there the vector takes the last token's place (in
        an encoder that is a special token).
        """
        longer, placeholder = _with_placeholder(batch, reader)
        vectors = self(target)[:, None]

        def put(embeddings: Embeddings) -> Embeddings:
            return torch.where(placeholder[..., None], vectors.to(embeddings.dtype), embeddings)

        return longer, put

    def one_hot(self, target: Target) -> Float[Tensor, "batch labels"]:
        """w of each text: 1 for the target's class, 0 for the others.

        Raises:
            ValueError: when the target is not the logit of one class.
        """
        several = target.choices.shape[1] != 1
        _refuse(f"{target.choices.shape[1]} questions at once" if several else _beyond_logits(target))
        return F.one_hot(target.classes, len(self.classes)).to(self.classes.dtype)


class AnchorConditioning(AbstractConditioning):
    """A vector E_k + E_0 at every marked token, k the kind of its mark: the tag of a word, the answer's start or end.

    Args:
        task: says where the marks are.
    """

    def __init__(self, task: AbstractAnchoredTask, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.outputs = 1
        self.task = task
        self.kinds = nn.Parameter(torch.randn(task.n_marks, width) * scale)
        self.shared = nn.Parameter(torch.zeros(width))

    def added(self, batch: TokenBatch, target: Target) -> Float[Tensor, "batch _ hidden"]:
        _refuse(_beyond_logits(target))
        return self.task.marks(batch, target).to(self.kinds.dtype) @ (self.kinds + self.shared)

    def chosen(self, scores: Float[Tensor, "batch seq outputs"], target: Target) -> Float[Tensor, "batch seq"]:
        return scores[..., 0]

    def join(
        self, reader: ExplainedModel, batch: TokenBatch, target: Target
    ) -> tuple[TokenBatch, Callable[[Embeddings], Embeddings]]:
        vectors = self.added(batch, target)
        return batch, lambda embeddings: embeddings + vectors.to(embeddings.dtype)


def _refuse(unknown: str | None) -> None:
    if unknown is not None:
        raise ValueError(
            f"A trained explainer has learned the logits of single classes, and the target asks for {unknown}: leave "
            "`foil` and `score` out, or take a method that runs the explained model, such as `attn_lrp` or `sig`."
        )


def _beyond_logits(target: Target) -> str | None:
    """What a target asks for in addition to logits; None where that is all."""
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
