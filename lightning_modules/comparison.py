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

from explainer.evaluation import HIGHER_IS_BETTER, METRICS, faithfulness, summary
from explainer.explained import EncodedText, ExplainedModel
from explainer.methods.base import AbstractMethod
from explainer.methods.run import scores_of
from explainer.metrics import Estimate, bootstrap_mean
from explainer.typing import Target

SUMMARY = "faithfulness"
COLUMNS = (*METRICS, SUMMARY)
ARROW = {name: "↑" if HIGHER_IS_BETTER.get(name, True) else "↓" for name in COLUMNS}


@dataclass
class MethodRow:
    """What was measured of one method: per-text values by metric, and its cost."""

    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    forward_equivalents: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def n(self) -> int:
        return len(self.forward_equivalents)

    def estimate(self, metric: str) -> Estimate:
        return bootstrap_mean(self.values[metric])


class Comparison:
    """Rows of methods, filled batch by batch; read as a table, as records, as files.

    `faithfulness` is AOPC-comprehensiveness minus AOPC-sufficiency; the paired difference is to the best method
    that is not `ours`, text by text.
    """

    def __init__(self, methods: Mapping[str, AbstractMethod], ours: str | None = None) -> None:
        self.methods = dict(methods)
        self.ours = ours
        self.rows = {name: MethodRow() for name in methods}
        self._records: list[dict[str, Any]] | None = None  # ten thousand resamples a number: once is enough

    def update(self, explained: ExplainedModel, texts: Sequence[EncodedText], target: Target) -> None:
        """Score the texts by every method and add the values."""
        self._records = None
        for name, method in self.methods.items():
            row = self.rows[name]
            started = perf_counter()
            scores = scores_of(method, explained, texts, target)
            row.seconds += perf_counter() - started
            values: dict[str, Tensor] = faithfulness(explained, texts, scores, target)
            values[SUMMARY] = summary(values)
            for metric, per_text in values.items():
                row.values[metric] += per_text.tolist()
            row.forward_equivalents += [method.forward_equivalents(text.n_scorable) for text in texts]

    @property
    def best_teacher(self) -> str | None:
        """The other method of the highest mean faithfulness."""
        others = [name for name in self.rows if name != self.ours]
        return max(others, key=lambda name: np.mean(self.rows[name].values[SUMMARY]), default=None)

    def difference(self, name: str) -> Estimate | None:
        """Paired difference in faithfulness to the best other method."""
        best = self.best_teacher
        if best is None or name == best:
            return None
        mine, theirs = self.rows[name].values[SUMMARY], self.rows[best].values[SUMMARY]
        return bootstrap_mean(np.subtract(mine, theirs))

    def records(self) -> list[dict[str, Any]]:
        """One JSON-able record a method."""
        if self._records is None:
            self._records = self._estimate()
        return self._records

    def _estimate(self) -> list[dict[str, Any]]:
        found = []
        for name, row in self.rows.items():
            record: dict[str, Any] = {"method": name, "n": row.n}
            for metric in COLUMNS:
                estimate = row.estimate(metric)
                record[metric] = {"mean": estimate.mean, "ci95": [estimate.low, estimate.high]}
            difference = self.difference(name)
            record["difference_to"] = self.best_teacher
            record["difference"] = (
                None if difference is None else {"mean": difference.mean, "ci95": [difference.low, difference.high]}
            )
            record["forward_equivalents"] = float(np.mean(row.forward_equivalents))
            record["milliseconds"] = 1000 * row.seconds / row.n
            found.append(record)
        return found

    def table(self) -> Group:
        """The comparison for the terminal, in two tables that fit it: every metric; one number and the cost."""
        n = next(iter(self.rows.values())).n
        metrics = Table(title=f"Faithfulness on {n} texts, 95 % bootstrap intervals", box=SIMPLE_HEAD)
        totals = Table(title=f"In one number, and its cost, on {n} texts", caption=_CAPTION, box=SIMPLE_HEAD)
        head, cells = self._head(), self._cells()
        for table, columns in ((metrics, range(len(METRICS) + 1)), (totals, [0, *range(len(METRICS) + 1, len(head))])):
            for column in columns:
                table.add_column(head[column], justify="right" if column else "left", overflow="fold")
            for row in cells:
                table.add_row(*(row[column] for column in columns), style="bold" if row[0] == self.ours else "")
        return Group(metrics, totals)

    def markdown(self) -> str:
        """Both tables in one, in Markdown."""
        head = self._head()
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(cell.replace("\n", " ") for cell in cells) + " |" for cells in self._cells()]
        return "\n".join(lines) + "\n"

    def _head(self) -> list[str]:
        metrics = [f"{_SHORT[metric]} {ARROW[metric]}" for metric in COLUMNS]
        return ["method", *metrics, f"Δ to {self.best_teacher}", "forward passes", "ms a text"]

    def _cells(self) -> list[list[str]]:
        rows = []
        for record in self.records():
            cells = [record["method"]]
            cells += [_interval(record[metric]) for metric in COLUMNS]
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
            writer.writerow(["method", "text", *COLUMNS])
            for name, row in self.rows.items():
                writer.writerows([name, i, *values] for i, values in enumerate(zip(*row.values.values(), strict=True)))


_SHORT = {
    "comprehensiveness": "comp@20",
    "sufficiency": "suff@20",
    "log_odds": "log-odds@20",
    "aopc_comprehensiveness": "AOPC-comp",
    "aopc_sufficiency": "AOPC-suff",
    SUMMARY: "comp − suff",
}
_CAPTION = "comp − suff: AOPC-comp minus AOPC-suff, one map a text. A backward pass counts as two forward passes."


def _interval(value: Mapping[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:.3f}\n[{low:.3f}, {high:.3f}]"


def targets(explained: ExplainedModel, texts: Sequence[EncodedText]) -> Target:
    """The predicted class of every text."""
    return explained.predict([text.tokens for text in texts]).argmax(dim=-1).to(torch.int64)
