"""The teachers of an explainer: methods whose scores it learns to match, and how they are mixed."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.explainers.losses import Loss, correlation_matching
from explainer.methods.loading import load_methods
from explainer.methods.trained.amortized import Amortized
from explainer.typing import Scores
from lightning_modules.data.cached import cached_scores
from lightning_modules.schedule import Weight

Mixing = Literal["mean", "alternate"]


class Taught(Protocol):
    """A batch with teachers.

    Attributes:
        standardized_teachers: each teacher's scores, of mean 0 and standard deviation 1 per text.
        scored: where a text has a score.
    """

    @property
    def standardized_teachers(self) -> Mapping[str, Scores]: ...

    @property
    def scored(self) -> Bool[Tensor, "batch seq"]: ...


class Teachers:
    """Methods with a share each.

    Args:
        explained: the model that they explain.
        settings: {name: settings}, or {label: {method: name, ...settings}}.
        weights: {label: weight}; equal by default.
        mixing: `mean` matches the weighted mean of the teachers; `alternate` one teacher per step, in turn, its loss
            multiplied by its weight over the mean weight.

    Raises:
        ValueError: when a method, a setting, a weight or `mixing` is unknown.
    """

    def __init__(
        self,
        explained: ExplainedModel,
        settings: Mapping[str, Mapping[str, Any] | None],
        weights: Mapping[str, float] | None = None,
        mixing: Mixing = "mean",
    ) -> None:
        if mixing not in get_args(Mixing):
            raise ValueError(f"`mixing` must be `mean` or `alternate`, got {mixing!r}.")
        self.shares = teacher_shares(list(settings), weights)
        self.mixing = mixing
        self.methods = load_methods(settings, explained)

    def scores(
        self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target
    ) -> dict[str, list[Tensor]]:
        """Every teacher's scores of every text, from the cache where it has them."""
        for method in self.methods.values():
            if isinstance(method, Amortized):  # it has an explained model of its own
                method.to(explained.device)
        return {
            label: cached_scores(method, explained, texts, target, f"teacher {label}")
            for label, method in self.methods.items()
        }

    def matching(self, scores: Scores, batch: Taught, step: int) -> Loss:
        """1 - correlation with the teachers' mean, or with the teacher whose turn it is."""
        teachers, scorable = batch.standardized_teachers, batch.scored
        if self.mixing == "mean":
            mixed = torch.stack([self.shares[label] * teacher for label, teacher in teachers.items()]).sum(dim=0)
            return correlation_matching(scores, mixed, scorable)
        turn = list(teachers)[step % len(teachers)]
        weight = self.shares[turn] * len(self.shares)
        return weight * correlation_matching(scores, teachers[turn], scorable)

    def agreement(self, scores: Scores, batch: Taught) -> dict[str, Tensor]:
        """Correlation with each teacher, averaged over the texts."""
        return {
            label: 1 - correlation_matching(scores, teacher, batch.scored)
            for label, teacher in batch.standardized_teachers.items()
        }


def check_teachers(teachers: Mapping[str, Any] | None, matching: Weight) -> None:
    """Refuse to match nobody.

    Raises:
        ValueError: when `matching` has a weight and there are no teachers.
    """
    if not teachers and matching != 0:
        raise ValueError("`matching` has a weight but there are no `teachers`. Name some, or set `matching: 0`.")


def teacher_shares(labels: Sequence[str], weights: Mapping[str, float] | None) -> dict[str, float]:
    """Each teacher's share of the whole.

    >>> teacher_shares(["sig", "attn_lrp"], {"sig": 3.0, "attn_lrp": 1.0})
    {'sig': 0.75, 'attn_lrp': 0.25}

    Raises:
        ValueError: when the weights are not one for each teacher, or not positive.
    """
    given = dict.fromkeys(labels, 1.0) if weights is None else weights
    if set(given) != set(labels):
        raise ValueError(f"`teacher_weights` must have one weight for each of {labels}, got {sorted(given)}.")
    if any(weight <= 0 for weight in given.values()):
        raise ValueError(f"`teacher_weights` must be positive, got {given}: leave a teacher out instead.")
    return {label: given[label] / sum(given.values()) for label in labels}
