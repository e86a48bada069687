"""The best of several candidate scores of a text by a metric on that very text, as the papers of RPI and AML report it.

Such numbers are mostly selection: the best of 24 random score vectors is a row that every such table needs. So the
label says how many candidates there were, and by which metric one was chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from explainer.explained import Attributions, EncodedText, ExplainedModel, Target
from explainer.faithfulness.measures import HIGHER_IS_BETTER, METRIC_SPECS, faithfulness
from explainer.methods.base import AbstractMethod, AbstractTextMethod
from explainer.typing import RaggedScores


@runtime_checkable
class HasCandidates(Protocol):
    """A method that gives several score vectors per text."""

    @property
    def n_candidates(self) -> int:
        """Candidates per text."""

    def candidates(
        self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target
    ) -> list[Float[Tensor, "candidates _"]]:
        """The candidates (candidates, tokens) of every text, 0 where not scorable.

        Args:
            target: on the CPU, one row per text.
        """


@dataclass(frozen=True)
class BestOf(AbstractTextMethod):
    """Each text's best candidate of a method by a metric on the text itself; the first of equal ones.

    Args:
        method: gives the candidates (`HasCandidates`); name and settings are those of this method.
        by: the metric, of `explainer.faithfulness.measures.ALL_METRICS`.

    Raises:
        TypeError: when the method has no candidates.
        ValueError: when there is no such metric.
    """

    method: Any
    by: str

    def __post_init__(self) -> None:
        if not (isinstance(self.method, AbstractMethod) and isinstance(self.method, HasCandidates)):
            raise TypeError(
                f"`method` must be one that gives several candidates per text, such as RPI with `n_baselines` above 1, "
                f"got {self.method!r}."
            )
        if self.by not in HIGHER_IS_BETTER:
            raise ValueError(f"`by` must be one of {', '.join(HIGHER_IS_BETTER)}, got {self.by!r}.")

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.method.name

    @property
    def complete(self) -> bool:  # type: ignore[override]
        """A candidate of a complete method is complete, whichever it is."""
        return self.method.complete

    @property
    def operator(self) -> str | None:  # type: ignore[override]
        return self.method.operator

    @property
    def is_bound(self) -> bool:  # type: ignore[override]
        return self.method.is_bound

    @property
    def label(self) -> str:
        return f"{self.method.label} (best of {self.method.n_candidates} by {self.by})"

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.method.settings, "best_by": self.by}

    def scores(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> RaggedScores:
        candidates = [of_text.cpu() for of_text in self.method.candidates(explained, texts, target)]
        n = self.method.n_candidates
        # All candidates of all texts are measured together, through one pooled prediction.
        scores = [of_text[k] for k in range(n) for of_text in candidates]
        attributions = Attributions(list(texts) * n, target.repeat(n), scores)
        values = faithfulness(explained, attributions, (self.by,))[self.by].view(n, len(texts))
        # `argmax` may name any of equal values; a stable sort names the first.
        order = values.sort(dim=0, descending=HIGHER_IS_BETTER[self.by], stable=True).indices
        return [of_text[best] for of_text, best in zip(candidates, order[0].tolist(), strict=True)]

    def forward_equivalents(self, n_scorable: int) -> float:
        """The method's cost, and at most one pass per candidate and point of the metric's curves."""
        points = sum(len(percents) for percents in METRIC_SPECS[self.by].plan.values())
        return self.method.forward_equivalents(n_scorable) + float(self.method.n_candidates * points)
