"""Compare attribution methods on the same texts: values per text, intervals, paired differences, cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from explainer.explained import Attributions, EncodedText, ExplainedModel, Target
from explainer.faithfulness.measures import (
    METRIC_SPECS,
    check_metrics,
    check_operator,
    default_metrics,
    faithfulness,
    summary,
    summary_metrics,
)
from explainer.faithfulness.perturbation import Operator
from explainer.methods.base import AbstractMethod
from explainer.methods.loading import row_label
from explainer.metrics import Estimate, bootstrap_mean
from explainer.storage.cache import Cache, listed, numbered

SUMMARY = "faithfulness"


@dataclass
class MethodRow:
    """The measurements of one method: values per text by metric, its cost, and the scores of the first texts."""

    values: dict[str, list[float]] = field(default_factory=dict)
    forward_equivalents: list[float] = field(default_factory=list)
    seconds: float = 0.0
    scores: list[Tensor] = field(default_factory=list)

    @property
    def n(self) -> int:
        return len(self.forward_equivalents)

    def add(self, other: "MethodRow") -> None:
        """Add the measurements on further texts."""
        for metric, values in other.values.items():
            self.values.setdefault(metric, []).extend(values)
        self.forward_equivalents += other.forward_equivalents
        self.seconds += other.seconds
        self.scores += other.scores

    def estimate(self, metric: str) -> Estimate:
        return bootstrap_mean(self.values[metric])


class Comparison:
    """Measurements of several methods, filled batch by batch; `evaluation.table` shows and writes them.

    The metric `faithfulness` is AOPC-comprehensiveness minus AOPC-sufficiency, of values where the explained model
    gives no probabilities. The paired difference, text by text, is to the best method that is neither `ours` nor a
    bound.

    Args:
        methods: by the label of their row; `row_label` adds what the method says of itself, such as (bound).
        ours: the label of the method that the others are compared with, if there is one.
        metrics: names of metrics, by default those of the explained model's task; the two areas that `faithfulness` is
            made of are always among them.
        cache: keeps what has been measured, so that an interrupted comparison continues.
        keep: of how many texts the scores are kept, to be shown.
        operator: replaces the operator of every metric.

    Raises:
        ValueError: when there is no such metric or operator.
    """

    def __init__(
        self,
        methods: Mapping[str, AbstractMethod],
        ours: str | None = None,
        metrics: Sequence[str] | None = None,
        cache: Cache | None = None,
        keep: int = 0,
        operator: Operator | None = None,
    ) -> None:
        check_metrics(metrics or ())
        check_operator(operator)
        self.methods = {row_label(label, method): method for label, method in methods.items()}
        self.ours, self.keep, self.operator = ours, keep, operator
        self.cache = cache or Cache(None, {})
        self.rows = {label: MethodRow() for label in self.methods}
        self._wanted = metrics
        self._records: list[dict[str, Any]] | None = None  # ten thousand resamples per number: once is enough

    def update(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> None:
        """Score the texts by every method and add the values."""
        for label in self.methods:
            self.measure(label, explained, texts, target)

    def add(self, rows: Mapping[str, MethodRow]) -> None:
        """Add what another comparison of the same methods has measured on further texts."""
        self._records = None
        for label, row in rows.items():
            self.rows[label].add(row)

    def measure(self, label: str, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> None:
        """Score the texts by one method and add the values.

        The seconds are those of the computation, also where the scores come from the cache.
        """
        self._records = None
        method, row = self.methods[label], self.rows[label]
        scores_key, values_key = self._keys(label, explained, target)
        stored = self.cache(texts, lambda: _timed_scores(method, explained, texts, target), **scores_key)
        attributions = Attributions(texts, target, listed(stored))
        values = self.cache(texts, lambda: self._values(explained, attributions), **values_key)
        row.seconds += float(stored["seconds"])
        row.scores += attributions.scores[: max(self.keep - len(row.scores), 0)]
        row.forward_equivalents += [method.forward_equivalents(text.n_scorable) for text in texts]
        for metric in self._metrics(explained):
            row.values.setdefault(metric, []).extend(values[metric].tolist())
        row.values.setdefault(SUMMARY, []).extend(summary(values).tolist())

    def measured(self, label: str, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> bool:
        """Whether the cache holds all that `measure` would compute."""
        return all(self.cache.holds(texts, **key) for key in self._keys(label, explained, target))

    def _keys(self, label: str, explained: ExplainedModel, target: Target) -> tuple[dict[str, Any], dict[str, Any]]:
        """The cache keys of a method's scores, and of the values of the metrics."""
        if self.cache.folder is None:
            return {}, {}
        scores = {"settings": self.methods[label].settings, "target": target.key}
        return scores, {**scores, "metrics": self._metrics(explained), "operator": self.operator}

    def _metrics(self, explained: ExplainedModel) -> tuple[str, ...]:
        usual = default_metrics(explained.task.link)
        return tuple(dict.fromkeys([*(usual if self._wanted is None else self._wanted), *summary_metrics(usual)]))

    def _values(self, explained: ExplainedModel, attributions: Attributions) -> dict[str, Tensor]:
        values = faithfulness(explained, attributions, self._metrics(explained), operator=self.operator)
        return {metric: value.contiguous() for metric, value in values.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics that were measured, the one number last."""
        return tuple(next(iter(self.rows.values())).values)

    @property
    def operators(self) -> dict[str, Operator]:
        """The operator that each metric was measured with."""
        metrics = [metric for metric in self.columns if metric != SUMMARY]
        return {metric: self.operator or METRIC_SPECS[metric].operator for metric in metrics}

    def is_bound(self, label: str) -> bool:
        """Whether the row is one that no method of practical cost is meant to reach."""
        return self.methods[label].is_bound

    @property
    def best_teacher(self) -> str | None:
        """The method of the highest mean faithfulness that is neither `ours` nor a bound."""
        others = [label for label in self.rows if label != self.ours and not self.is_bound(label)]
        return max(others, key=lambda label: np.mean(self.rows[label].values[SUMMARY]), default=None)

    def difference(self, label: str) -> Estimate | None:
        """The paired difference in faithfulness to the best other method."""
        best = self.best_teacher
        if best is None or label == best:
            return None
        return bootstrap_mean(np.subtract(self.rows[label].values[SUMMARY], self.rows[best].values[SUMMARY]))

    def records(self) -> list[dict[str, Any]]:
        """One JSON-able record per method."""
        if self._records is None:
            self._records = [self._record(label, row) for label, row in self.rows.items()]
        return self._records

    def _record(self, label: str, row: MethodRow) -> dict[str, Any]:
        record: dict[str, Any] = {"method": label, "n": row.n}
        for metric in self.columns:
            record[metric] = _mean_and_interval(row.estimate(metric))
        difference = self.difference(label)
        record["difference_to"] = self.best_teacher
        record["difference"] = None if difference is None else _mean_and_interval(difference)
        record["forward_equivalents"] = float(np.mean(row.forward_equivalents))
        record["milliseconds"] = 1000 * row.seconds / row.n
        record["operators"] = self.operators
        return record


def _timed_scores(
    method: AbstractMethod, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target
) -> dict[str, Tensor]:
    """The scores, and the seconds that computing them took."""
    started = perf_counter()
    scores = method.attribute(explained, texts, target).scores
    return {"seconds": torch.tensor(perf_counter() - started, dtype=torch.float64), **numbered(scores)}


def _mean_and_interval(estimate: Estimate) -> dict[str, Any]:
    return {"mean": estimate.mean, "ci95": [estimate.low, estimate.high]}
