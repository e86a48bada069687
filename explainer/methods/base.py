"""The contract of an attribution method: explained model, batch and target in, one score a token out."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from explainer.explained import AbstractExplained, ExplainedModel, ImageBatch, TokenBatch, Tokens
from explainer.typing import Embeddings, Logits, Scores, Target


@dataclass(frozen=True)
class AbstractMethod(ABC):
    """An attribution method and its settings.

    A concrete method is a frozen dataclass: its fields are its settings, and two methods with equal settings give
    equal scores. It leaves the explained model as it found it.
    """

    name: ClassVar[str]
    complete: ClassVar[bool] = False
    """Whether the scores promise to sum to f_c(x) - f_c(every scorable token replaced by the baseline token)."""

    @property
    def label(self) -> str:
        """What tables call it: the name, and what must be known to read its numbers (a bound, a best-of)."""
        return self.name

    @abstractmethod
    def __call__(self, explained: ExplainedModel, batch: TokenBatch, target: Target) -> Scores:
        """Scores (batch, seq) in float32: evidence for `target` (batch,), 0 where not `batch.scorable`."""

    @abstractmethod
    def forward_equivalents(self, n_scorable: int) -> float:
        """The cost for one text of `n_scorable` tokens, in forward passes of it; a backward pass counts as two."""

    def predicting(self, explained: ExplainedModel, batch: TokenBatch) -> tuple[Logits, Callable[[Target], Scores]]:
        """The model's prediction for the batch, and a function that gives the scores for any target.

        A method that reads what the prediction computes anyway overrides this: both then come from one pass.
        """
        with torch.no_grad():
            return explained(batch), partial(self, explained, batch)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the scores, for cache keys and reports."""
        return {"method": self.name, **asdict(self)}


def scorable_only(scores: Tensor, batch: TokenBatch | ImageBatch) -> Scores:
    """The scores in float32 without graph, exactly 0 at special tokens and padding."""
    return scores.detach().float().masked_fill(~batch.scorable, 0.0)


def logit_of(logits: Tensor, target: Tensor) -> Tensor:
    """The target's logit, one a row."""
    return logits.gather(1, target[:, None])[:, 0]


def gradient_times_input(
    explained: AbstractExplained, batch: TokenBatch | ImageBatch, objective: Callable[[Tensor], Tensor]
) -> Scores:
    """Sum over the hidden dimension of e_i * dL/de_i, L = the sum of `objective(logits)` over the texts."""
    leaves: list[Embeddings] = []

    def lift(embeddings: Tensor) -> Tensor:
        leaves.append(embeddings.detach().requires_grad_())
        return leaves[-1]

    with torch.enable_grad():
        value = objective(explained(batch, edit=lift)).sum()
        (gradient,) = torch.autograd.grad(value, leaves)
    exact = torch.promote_types(gradient.dtype, torch.float32)
    return scorable_only((leaves[0].to(exact) * gradient.to(exact)).sum(dim=-1), batch)


def one_at_a_time(
    explained: ExplainedModel, batch: TokenBatch, target: Target, without: Callable[[Tokens, int], Tokens]
) -> Scores:
    """f_c(x) - f_c(`without(row, j)`) for every scorable token j of every row, all in one pooled prediction."""
    moved = batch.to("cpu")
    rows = moved.rows()
    positions = [part.nonzero()[:, 0].tolist() for part in moved.split(moved.scorable)]
    variants = [without(row, j) for row, places in zip(rows, positions, strict=True) for j in places]
    logits = explained.predict([*rows, *variants])
    owner = [i for i, places in enumerate(positions) for _ in places]
    value = logit_of(logits, target.cpu()[[*range(len(rows)), *owner]])
    scores: Tensor = torch.zeros(batch.input_ids.shape, dtype=value.dtype)
    scores[moved.scorable] = value[: len(rows)][owner] - value[len(rows) :]
    return scorable_only(scores.to(batch.device), batch)
