"""Compare attribution methods on the same texts: values a text, intervals, paired differences, cost."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel
from explainer.faithfulness.aopc_bounds import AOPCBounds, aopc_bounds
from explainer.faithfulness.measures import HIGHER_IS_BETTER, METRICS, NORMALISED, faithfulness, summary
from explainer.methods.base import AbstractMethod
from explainer.methods.loading import shown_as
from explainer.methods.run import scores_of
from explainer.metrics import Estimate, bootstrap_mean
from explainer.storage.cache import Cache, listed, numbered
from explainer.typing import Target

SUMMARY = "faithfulness"
COLUMNS = (*METRICS, SUMMARY)


@dataclass
class MethodRow:
    """What was measured of one method: per-text values by metric, its cost, and the first texts' scores."""

    values: dict[str, list[float]]
    forward_equivalents: list[float] = field(default_factory=list)
    seconds: float = 0.0
    scores: list[Tensor] = field(default_factory=list)

    @property
    def n(self) -> int:
        return len(self.forward_equivalents)

    def estimate(self, metric: str) -> Estimate:
        return bootstrap_mean(self.values[metric])


class Comparison:
    """Rows of methods, filled batch by batch; read as a table, as records, as files.

    `faithfulness` is AOPC-comprehensiveness minus AOPC-sufficiency; the paired difference is to the best method
    that is neither `ours` nor a bound, text by text.

    Args:
        methods: by the label of their row; a label is completed by what the method says of itself, such as (bound).
        ours: the label of the method that the others are there for, if there is one.
        metrics: names of metrics; the two areas that `faithfulness` is made of are always among them.
        cache: where what has been measured is kept, so that an interrupted comparison continues.
        keep: of how many texts the scores are kept, to be shown.
    """

    def __init__(
        self,
        methods: Mapping[str, AbstractMethod],
        ours: str | None = None,
        metrics: Sequence[str] = METRICS,
        cache: Cache | None = None,
        keep: int = 0,
    ) -> None:
        self.methods = {shown_as(label, method): method for label, method in methods.items()}
        self.ours, self.keep = ours, keep
        self.metrics = tuple(dict.fromkeys([*metrics, "aopc_comprehensiveness", "aopc_sufficiency"]))
        self.columns = (*self.metrics, SUMMARY)
        self.cache = cache or Cache(None, {})
        self.rows = {label: MethodRow({name: [] for name in self.columns}) for label in self.methods}
        self._last_bounds: tuple[tuple[int, ...], AOPCBounds] | None = None
        self._records: list[dict[str, Any]] | None = None  # ten thousand resamples a number: once is enough

    def update(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> None:
        """Score the texts by every method and add the values."""
        for label in self.methods:
            self.measure(label, explained, texts, target)

    def measure(self, label: str, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> None:
        """Score the texts by one method and add the values.

        The seconds are those of the computation, also where the scores come from the cache.
        """
        self._records = None
        method, row = self.methods[label], self.rows[label]
        scored = self.cache(texts, lambda: _scored(method, explained, texts, target), **self._key(label, target))
        scores = listed(scored)
        values = self.cache(
            texts, lambda: self._values(explained, texts, scores, target), **self._key(label, target, self.metrics)
        )
        row.seconds += float(scored["seconds"])
        row.scores += scores[: max(self.keep - len(row.scores), 0)]
        row.forward_equivalents += [method.forward_equivalents(text.n_scorable) for text in texts]
        for metric in self.metrics:
            row.values[metric] += values[metric].tolist()
        row.values[SUMMARY] += summary(values).tolist()

    def measured(self, label: str, texts: Sequence[EncodedText], target: Target) -> bool:
        """Whether the cache holds all that `measure` would compute."""
        keys = (self._key(label, target), self._key(label, target, self.metrics))
        paths = [self.cache.path(texts, **key) for key in keys]
        return all(path is not None and path.exists() for path in paths)

    def _key(self, label: str, target: Target, metrics: Sequence[str] | None = None) -> dict[str, Any]:
        if self.cache.folder is None:
            return {}
        return {"settings": self.methods[label].settings, "target": target.tolist(), "metrics": metrics}

    def _values(
        self, explained: ExplainedModel, texts: Sequence[EncodedText], scores: Sequence[Tensor], target: Target
    ) -> dict[str, Tensor]:
        bounds = self._bounds(explained, texts, target) if NORMALISED in self.metrics else None
        found = faithfulness(explained, texts, scores, target, self.metrics, bounds=bounds)
        return {metric: torch.as_tensor(found[metric]).contiguous() for metric in self.metrics}

    def _bounds(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> AOPCBounds:
        """The bounds of normalised AOPC: costly, and the same for every method of these texts."""
        key = (*map(id, texts), *target.tolist())
        if self._last_bounds is None or self._last_bounds[0] != key:
            self._last_bounds = key, aopc_bounds(explained, texts, target)
        return self._last_bounds[1]

    def is_bound(self, label: str) -> bool:
        """Whether the row is one that no method of practical cost is meant to reach."""
        return "(bound)" in label

    @property
    def best_teacher(self) -> str | None:
        """The other method of the highest mean faithfulness; a bound is none."""
        others = [label for label in self.rows if label != self.ours and not self.is_bound(label)]
        return max(others, key=lambda label: np.mean(self.rows[label].values[SUMMARY]), default=None)

    def difference(self, label: str) -> Estimate | None:
        """Paired difference in faithfulness to the best other method."""
        best = self.best_teacher
        if best is None or label == best:
            return None
        mine, theirs = self.rows[label].values[SUMMARY], self.rows[best].values[SUMMARY]
        return bootstrap_mean(np.subtract(mine, theirs))

    def records(self) -> list[dict[str, Any]]:
        """One JSON-able record a method."""
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
        return record

    def table(self) -> Group:
        """The comparison for the terminal, in two tables that fit it: every metric; one number and the cost."""
        n = next(iter(self.rows.values())).n
        metrics = Table(title=f"Faithfulness on {n} texts, 95 % bootstrap intervals", box=SIMPLE_HEAD)
        totals = Table(title=f"In one number, and its cost, on {n} texts", caption=CAPTION, box=SIMPLE_HEAD)
        head, cells, split = self.head(), self.cells(), len(self.metrics) + 1
        for table, columns in ((metrics, range(split)), (totals, [0, *range(split, len(head))])):
            for column in columns:
                table.add_column(head[column], justify="right" if column else "left", overflow="fold")
            for row in cells:
                table.add_row(*(row[column] for column in columns), style="bold" if row[0] == self.ours else "")
        return Group(metrics, totals)

    def markdown(self) -> str:
        """Both tables in one, in Markdown."""
        head = self.head()
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(cell.replace("\n", " ") for cell in cells) + " |" for cells in self.cells()]
        return "\n".join(lines) + "\n"

    def head(self) -> list[str]:
        """The names of the table's columns, with the direction that is better."""
        arrow = {metric: "↑" if HIGHER_IS_BETTER.get(metric, True) else "↓" for metric in self.columns}
        metrics = [f"{_SHORT.get(metric, metric)} {arrow[metric]}" for metric in self.columns]
        return ["method", *metrics, f"Δ to {self.best_teacher}", "forward passes", "ms a text"]

    def cells(self) -> list[list[str]]:
        """The table's rows; mean and interval stand on two lines of a cell."""
        rows = []
        for record in self.records():
            cells = [record["method"]]
            cells += [_interval(record[metric]) for metric in self.columns]
            cells.append("" if record["difference"] is None else _interval(record["difference"]))
            cells += [f"{record['forward_equivalents']:.1f}", f"{record['milliseconds']:.1f}"]
            rows.append(cells)
        return rows

    def write(self, folder: Path) -> None:
        """comparison.json (means and intervals), comparison.md, and comparison.csv (every text's values)."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "comparison.json").write_text(json.dumps(self.records(), indent=2) + "\n")
        (folder / "comparison.md").write_text(self.markdown())
        with (folder / "comparison.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["method", "text", *self.columns])
            for label, row in self.rows.items():
                writer.writerows([label, i, *values] for i, values in enumerate(zip(*row.values.values(), strict=True)))


_SHORT = {
    "comprehensiveness": "comp@20",
    "sufficiency": "suff@20",
    "log_odds": "log-odds@20",
    "aopc_comprehensiveness": "AOPC-comp",
    "aopc_sufficiency": "AOPC-suff",
    SUMMARY: "comp − suff",
}
CAPTION = "comp − suff: AOPC-comp minus AOPC-suff, one map a text. A backward pass counts as two forward passes."


def _scored(
    method: AbstractMethod, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target
) -> dict[str, Tensor]:
    """The scores, and the seconds that computing them took."""
    started = perf_counter()
    scores = scores_of(method, explained, texts, target)
    return {"seconds": torch.tensor(perf_counter() - started, dtype=torch.float64), **numbered(scores)}


def _mean_and_interval(estimate: Estimate) -> dict[str, Any]:
    return {"mean": estimate.mean, "ci95": [estimate.low, estimate.high]}


def _interval(value: Mapping[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:.3f}\n[{low:.3f}, {high:.3f}]"


def targets(explained: ExplainedModel, texts: Sequence[EncodedText]) -> Target:
    """The predicted class of every text."""
    return explained.predict([text.tokens for text in texts]).argmax(dim=-1).to(torch.int64)
