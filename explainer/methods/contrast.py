"""A method asked about another number: the target less a foil ("why A rather than B"), or another score of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

import torch

from explainer.explained import Attributions, EncodedText, ExplainedModel, Readout, Target
from explainer.explained.readout import Score
from explainer.explained.tasks import FoilLike
from explainer.methods.base import AbstractMethod

RUNNER_UP = "runner_up"


@dataclass(frozen=True)
class Contrast(AbstractMethod):
    """A method with a foil and a score of its own, whatever those of the target that it is given.

    Args:
        method: the method; name and settings are those of this method.
        foil: subtracted from the target: `runner_up` (the highest of the other choices), a label or an index; None
            keeps the target's own foil.
        score: `logit`, `log_prob` or `log_odds`, of the target and of the foil.

    Raises:
        ValueError: when there is no such score; when called, on an unknown foil, on one that is the target itself, and
            on `log_prob` where the model predicts values.
    """

    method: AbstractMethod
    foil: FoilLike | None = None
    score: str = "logit"

    def __post_init__(self) -> None:
        if self.score not in get_args(Score):
            raise ValueError(f"`score` must be one of {', '.join(get_args(Score))}, got {self.score!r}.")

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.method.name

    @property
    def complete(self) -> bool:  # type: ignore[override]
        """Complete for the target that its attributions carry: the one with the foil and the score of this method."""
        return self.method.complete

    @property
    def operator(self) -> str | None:  # type: ignore[override]
        return self.method.operator

    @property
    def is_bound(self) -> bool:  # type: ignore[override]
        return self.method.is_bound

    @property
    def label(self) -> str:
        score = None if self.score == "logit" else self.score
        foil = None if self.foil is None else f"against {self.foil}"
        parts = " ".join(filter(None, (score, foil)))
        return f"{self.method.label} ({parts})" if parts else self.method.label

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.method.settings, "foil": self.foil, "score": self.score}

    def attribute(
        self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target, progress: str | None = None
    ) -> Attributions:
        contrast = self._contrast(explained, target)
        if self.foil == RUNNER_UP:
            contrast = contrast.resolved(explained.predict([text.tokens for text in texts]))
        return self.method.attribute(explained, texts, contrast, progress)

    def explain(
        self,
        explained: ExplainedModel,
        texts: Sequence[EncodedText],
        targets: Sequence[Target],
        progress: str | None = None,
    ) -> tuple[Readout, list[Attributions]]:
        """The same from the one prediction that the method makes anyway: it resolves the runner-up too."""
        return self.method.explain(explained, texts, [self._contrast(explained, t) for t in targets], progress)

    def forward_equivalents(self, n_scorable: int) -> float:
        return self.method.forward_equivalents(n_scorable) + (1.0 if self.foil == RUNNER_UP else 0.0)

    def _contrast(self, explained: ExplainedModel, target: Target) -> Target:
        """The target with this foil and score; the runner-up is still a stand-in."""
        if self.score == "log_prob" and explained.task.link == "identity":
            raise ValueError(
                "`score` 'log_prob' needs probabilities, and this model predicts values (a regression): use 'logit', "
                "which is the value itself."
            )
        foil = target.foil
        if self.foil is not None:
            foil = torch.full_like(target.choices, explained.task.foil_index(self.foil))
        return Target(target.choices, foil, cast(Score, self.score))
