"""Compare attribution methods on the same texts: values per text, intervals, paired differences, cost."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from explainer.explained import Attributions, EncodedText, ExplainedModel, Target
from explainer.faithfulness.measures import (
    HIGHER_IS_BETTER,
    METRIC_SPECS,
    check_metrics,
    faithfulness,
    metrics_of,
    summary,
    summary_metrics,
)
from explainer.faithfulness.perturbation import Operator, check_operator
from explainer.methods.base import AbstractMethod
from explainer.methods.loading import row_label
from explainer.metrics import Estimate, bootstrap_mean
from explainer.storage.cache import Cache, listed, numbered
from explainer.typing import RaggedScores

SUMMARY = "faithfulness"

Items = TypeVar("Items", bound=Sized)
"""Texts with what is explained of each."""


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


class AbstractComparison(ABC, Generic[Items]):
    """Measurements of several methods, filled batch by batch; `evaluation.table` shows and writes them.

    The paired differences, text by text, are to the method of the highest mean `summary` that is neither `ours` nor a
    bound.

    Attributes:
        summary: the metric that methods are ranked by.
        noun: what one of the texts is called.
        removed: what the metrics take out of it.
        short: names of metrics in a table's head, where they are not their own.
        passes: forward passes per text that the metrics take, roughly; for the estimate of the time left.

    Args:
        methods: by the label of their row; `row_label` adds what the method says of itself, such as (bound).
        ours: the label of the method that the others are compared with, if there is one.
        cache: keeps what has been measured, so that an interrupted comparison continues.
        keep: of how many texts the scores are kept, to be shown.
    """

    summary: ClassVar[str]
    noun: ClassVar[str]
    removed: ClassVar[str]
    short: ClassVar[Mapping[str, str]]
    passes: ClassVar[float]

    def __init__(
        self,
        methods: Mapping[str, AbstractMethod],
        ours: str | None = None,
        cache: Cache | None = None,
        keep: int = 0,
    ) -> None:
        self.methods = {row_label(label, method): method for label, method in methods.items()}
        self.ours, self.keep = ours, keep
        self.cache = cache or Cache(None, {})
        self.rows = {label: MethodRow() for label in self.methods}
        self._records: list[dict[str, Any]] | None = None  # ten thousand resamples per number: once is enough

    # What a text is, and what is measured of it

    @abstractmethod
    def metrics(self, explained: ExplainedModel) -> tuple[str, ...]:
        """The metrics of the table, the one number last."""

    @abstractmethod
    def texts(self, items: Items) -> Sequence[EncodedText]:
        """The texts that the explained model reads."""

    @abstractmethod
    def costs(self, method: AbstractMethod, items: Items) -> list[float]:
        """What each explanation costs, in forward passes."""

    @abstractmethod
    def scores(self, method: AbstractMethod, explained: ExplainedModel, items: Items) -> RaggedScores:
        """The scores of each text by a method, one tensor each."""

    @abstractmethod
    def values(self, explained: ExplainedModel, items: Items, scores: RaggedScores) -> dict[str, Tensor]:
        """One value per text of each of `metrics`, of given scores."""

    @abstractmethod
    def key(self, method: AbstractMethod, items: Items) -> dict[str, Any]:
        """What the scores depend on besides the texts, as JSON."""

    @abstractmethod
    def values_key(self, explained: ExplainedModel) -> dict[str, Any]:
        """What the values depend on besides the scores, as JSON."""

    @property
    @abstractmethod
    def operators(self) -> dict[str, str]:
        """How each metric takes out tokens: an operator, or end_of_text."""

    @property
    @abstractmethod
    def meaning(self) -> str:
        """A sentence that says what the one number is."""

    @abstractmethod
    def higher_is_better(self, metric: str) -> bool:
        """Whether a high value of the metric is good."""

    # Measuring

    def update(self, explained: ExplainedModel, items: Items) -> None:
        """Score the texts by every method and add the values."""
        for label in self.methods:
            self.measure(label, explained, items)

    def add(self, rows: Mapping[str, MethodRow]) -> None:
        """Add what another comparison of the same methods has measured on further texts."""
        self._records = None
        for label, row in rows.items():
            self.rows[label].add(row)

    def measure(self, label: str, explained: ExplainedModel, items: Items) -> None:
        """Score the texts by one method and add the values.

        The seconds are those of the computation, also where the scores come from the cache.
        """
        if not len(items):
            return
        self._records = None
        method, row, texts = self.methods[label], self.rows[label], self.texts(items)
        scores_key, values_key = self._keys(label, explained, items)
        stored = self.cache(texts, lambda: self._timed_scores(method, explained, items), **scores_key)
        scores = listed(stored)
        values = self.cache(texts, lambda: self._contiguous_values(explained, items, scores), **values_key)
        row.seconds += float(stored["seconds"])
        row.scores += scores[: max(self.keep - len(row.scores), 0)]
        row.forward_equivalents += self.costs(method, items)
        for metric in self.metrics(explained):
            row.values.setdefault(metric, []).extend(values[metric].tolist())

    def measured(self, label: str, explained: ExplainedModel, items: Items) -> bool:
        """Whether the cache holds all that `measure` would compute."""
        return all(self.cache.holds(self.texts(items), **key) for key in self._keys(label, explained, items))

    def _keys(self, label: str, explained: ExplainedModel, items: Items) -> tuple[dict[str, Any], dict[str, Any]]:
        """The cache keys of a method's scores, and of the values of the metrics."""
        if self.cache.folder is None:
            return {}, {}
        scores = {"settings": self.methods[label].settings, **self.key(self.methods[label], items)}
        return scores, {**scores, **self.values_key(explained)}

    def _timed_scores(self, method: AbstractMethod, explained: ExplainedModel, items: Items) -> dict[str, Tensor]:
        """The scores, and the seconds that computing them took."""
        started = perf_counter()
        scores = self.scores(method, explained, items)
        return {"seconds": torch.tensor(perf_counter() - started, dtype=torch.float64), **numbered(scores)}

    def _contiguous_values(self, explained: ExplainedModel, items: Items, scores: RaggedScores) -> dict[str, Tensor]:
        return {metric: value.contiguous() for metric, value in self.values(explained, items, scores).items()}

    # What was found

    @property
    def n(self) -> int:
        """How many texts were measured."""
        return next(iter(self.rows.values())).n

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics that were measured, the one number last."""
        return tuple(next(iter(self.rows.values())).values)

    def is_bound(self, label: str) -> bool:
        """Whether the row is one that no method of practical cost is meant to reach."""
        return self.methods[label].is_bound

    @property
    def best_teacher(self) -> str | None:
        """The method of the highest mean `summary` that is neither `ours` nor a bound."""
        means = {
            label: float(np.nanmean(row.values[self.summary]))
            for label, row in self.rows.items()
            if label != self.ours and not self.is_bound(label) and not np.isnan(row.values[self.summary]).all()
        }
        return max(means, key=lambda label: means[label], default=None)

    def difference(self, label: str, metric: str | None = None) -> Estimate | None:
        """The paired difference to the best other method, in `summary` or another metric."""
        best, metric = self.best_teacher, metric or self.summary
        if best is None or label == best:
            return None
        return bootstrap_mean(np.subtract(self.rows[label].values[metric], self.rows[best].values[metric]))

    def records(self) -> list[dict[str, Any]]:
        """One JSON-able record per method."""
        if self._records is None:
            self._records = [self._record(label, row) for label, row in self.rows.items()]
        return self._records

    def _record(self, label: str, row: MethodRow) -> dict[str, Any]:
        record: dict[str, Any] = {"method": label, "n": row.n}
        for metric in self.columns:
            record[metric] = row.estimate(metric).record()
        differences = {metric: self.difference(label, metric) for metric in self.columns}
        record["difference_to"] = self.best_teacher
        record["differences"] = {metric: None if one is None else one.record() for metric, one in differences.items()}
        record["difference"] = record["differences"][self.summary]
        record["forward_equivalents"] = float(np.mean(row.forward_equivalents))
        record["milliseconds"] = 1000 * row.seconds / row.n
        record["operators"] = self.operators
        return record


@dataclass(frozen=True, eq=False)
class TargetedTexts:
    """Texts, and the target (one row each) that is explained of each."""

    texts: Sequence[EncodedText]
    target: Target

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, part: slice) -> "TargetedTexts":
        return TargetedTexts(self.texts[part], self.target[part])


class Comparison(AbstractComparison[TargetedTexts]):
    """A comparison on the texts of a classifier, or of any model with targets among its labels.

    The one number, `faithfulness`, is AOPC-comprehensiveness minus AOPC-sufficiency, of values where the explained
    model gives no probabilities.

    Args:
        methods: as of `AbstractComparison`; so are `ours`, `cache` and `keep`.
        metrics: names of metrics, by default those of the explained model's task; the two areas that `faithfulness` is
            made of are always among them.
        operator: replaces the operator of every metric.

    Raises:
        ValueError: when there is no such metric or operator.
    """

    summary = SUMMARY
    noun = "text"
    removed = "Tokens"
    short: ClassVar[Mapping[str, str]] = {
        "comprehensiveness": "comp@20",
        "sufficiency": "suff@20",
        "log_odds": "log-odds@20",
        "aopc_comprehensiveness": "AOPC-comp",
        "aopc_sufficiency": "AOPC-suff",
        "value_aopc_comprehensiveness": "value AOPC-comp",
        "value_aopc_sufficiency": "value AOPC-suff",
        "mask_lrp_aopc": "AOPC",
        "mask_lrp_log_odds": "LOdds",
        "answer_precision": "precision@20",
        SUMMARY: "comp − suff",
    }
    passes = 16.0

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
        super().__init__(methods, ours, cache, keep)
        self.operator, self._wanted = operator, metrics

    def metrics(self, explained: ExplainedModel) -> tuple[str, ...]:
        return (*self._measures(explained), SUMMARY)

    def _measures(self, explained: ExplainedModel) -> tuple[str, ...]:
        usual = metrics_of(explained.task)
        return tuple(dict.fromkeys([*(usual if self._wanted is None else self._wanted), *summary_metrics(usual)]))

    def texts(self, items: TargetedTexts) -> Sequence[EncodedText]:
        return items.texts

    def costs(self, method: AbstractMethod, items: TargetedTexts) -> list[float]:
        return [method.forward_equivalents(text.n_scorable) for text in items.texts]

    def scores(self, method: AbstractMethod, explained: ExplainedModel, items: TargetedTexts) -> RaggedScores:
        return method.attribute(explained, items.texts, items.target).scores

    def values(self, explained: ExplainedModel, items: TargetedTexts, scores: RaggedScores) -> dict[str, Tensor]:
        attributions = Attributions(items.texts, items.target, scores)
        values = faithfulness(explained, attributions, self._measures(explained), operator=self.operator)
        return {**values, SUMMARY: summary(values)}

    def key(self, method: AbstractMethod, items: TargetedTexts) -> dict[str, Any]:
        return {"target": items.target.key}

    def values_key(self, explained: ExplainedModel) -> dict[str, Any]:
        return {"metrics": self._measures(explained), "operator": self.operator}

    @property
    def operators(self) -> dict[str, str]:
        metrics = [metric for metric in self.columns if metric != SUMMARY]
        return {metric: METRIC_SPECS[metric].used(self.operator) for metric in metrics}

    @property
    def meaning(self) -> str:
        areas = " minus ".join(self.short[metric] for metric in summary_metrics(self.columns))
        return f"{self.short[SUMMARY]}: {areas}, of the same scores."

    def higher_is_better(self, metric: str) -> bool:
        return HIGHER_IS_BETTER.get(metric, True)
