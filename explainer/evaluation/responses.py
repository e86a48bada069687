"""Compare methods on the same responses of a language model: values per response, intervals, paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from explainer.explained import ExplainedModel, ExplainedResponse
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.responses import N_MASKS, RESPONSE_METRICS, responses_faithfulness
from explainer.methods.base import AbstractMethod
from explainer.methods.responses import attribute_responses
from explainer.metrics import Estimate, bootstrap_mean
from explainer.rendering.progress import track


@dataclass
class ResponseRow:
    """The measurements of one method: values per response by metric, and the seconds that its scores took."""

    values: dict[str, list[float]] = field(default_factory=lambda: {metric: [] for metric in RESPONSE_METRICS})
    seconds: float = 0.0

    def estimate(self, metric: str) -> Estimate:
        return bootstrap_mean(self.values[metric])

    def above(self, other: "ResponseRow", metric: str) -> Estimate:
        """The mean difference to another row, response by response."""
        pairs = zip(self.values[metric], other.values[metric], strict=True)
        return bootstrap_mean([mine - theirs for mine, theirs in pairs])


def compare_responses(
    explained: ExplainedModel,
    responses: Sequence[ExplainedResponse],
    methods: Mapping[str, AbstractMethod],
    *,
    operator: Operator = "delete",
    n_masks: int = N_MASKS,
    seed: int = 0,
    progress: str | None = None,
) -> dict[str, ResponseRow]:
    """Every metric of every method on every response; the masks of a response are the same for all methods.

    Gradients and relevance explain the logits of the target, methods that take sources away its log-probability.

    Args:
        methods: by the label of their row.
        seed: of the masks; that of the n-th response is `seed` + n.
        progress: the description of a progress bar; no bar when None.
    """
    rows = {label: ResponseRow() for label in methods}
    scores: dict[str, list[list[float]]] = {}
    for label, method in track(methods.items(), progress, len(methods)):
        asked = [replace(one, score="logit" if method.operator is None else "log_prob") for one in responses]
        start = perf_counter()
        scores[label] = attribute_responses(method, explained, asked)
        rows[label].seconds = perf_counter() - start
    for i, response in enumerate(track(responses, progress and "metrics")):
        maps = {label: scores[label][i] for label in methods}
        measured = responses_faithfulness(explained, response, maps, operator=operator, n_masks=n_masks, seed=seed + i)
        for label, values in measured.items():
            for metric, value in values.items():
                rows[label].values[metric].append(value)
    return rows


def records(rows: Mapping[str, ResponseRow]) -> list[dict[str, Any]]:
    """The rows as JSON: the estimate of every metric, and the values it is the mean of."""
    return [
        {
            "method": label,
            "seconds_per_response": row.seconds / max(len(row.values["lds"]), 1),
            **{metric: vars(row.estimate(metric)) | {"values": values} for metric, values in row.values.items()},
        }
        for label, row in rows.items()
    ]
