"""The table of a comparison: its head and cells, in the terminal, in Markdown, and as files."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from explainer.evaluation.comparison import AbstractComparison
from explainer.storage.atomic import replacing, write_text
from explainer.storage.strict_json import dumps

FILES = ("comparison.json", "comparison.md", "comparison.csv")
"""The files that `write` writes."""

_TAKEN_OUT = {
    "delete": "deleted",
    "replace": "replaced by the baseline token",
    "blank": "given a zero embedding",
    "hide": "hidden from attention",
    "none": "left in place",
    "end_of_text": "replaced by the end-of-text token",
}


def head(comparison: AbstractComparison[Any]) -> list[str]:
    """The names of the table's columns, with the direction that is better."""
    arrows = {metric: "↑" if comparison.higher_is_better(metric) else "↓" for metric in comparison.columns}
    metrics = [f"{comparison.short.get(metric, metric)} {arrow}" for metric, arrow in arrows.items()]
    return ["method", *metrics, f"Δ to {comparison.best_teacher}", "forward passes", f"ms per {comparison.noun}"]


def cells(comparison: AbstractComparison[Any]) -> list[list[str]]:
    """The table's rows; mean and interval are on two lines of a cell."""
    return [
        [
            record["method"],
            *(_interval(record[metric]) for metric in comparison.columns),
            "" if record["difference"] is None else _interval(record["difference"]),
            f"{record['forward_equivalents']:.1f}",
            f"{record['milliseconds']:.1f}",
        ]
        for record in comparison.records()
    ]


def caption(comparison: AbstractComparison[Any]) -> str:
    """What a reader must know of the numbers: the one number, the unit of cost, and every metric's operator."""
    metrics_of: dict[str, list[str]] = {}
    for metric, operator in comparison.operators.items():
        metrics_of.setdefault(operator, []).append(comparison.short.get(metric, metric))
    operators = [f"{_TAKEN_OUT[operator]} for {', '.join(metrics)}" for operator, metrics in metrics_of.items()]
    cost = "A backward pass counts as two forward passes."
    return f"{comparison.meaning} {cost} {comparison.removed} are {'; '.join(operators)}."


def terminal(comparison: AbstractComparison[Any]) -> Group:
    """Two tables that fit the terminal: every metric; one number and the cost."""
    texts = f"{comparison.n} {comparison.noun}s"
    metrics = Table(title=f"Faithfulness on {texts}, 95 % bootstrap intervals", box=SIMPLE_HEAD)
    totals = Table(title=f"In one number, and its cost, on {texts}", caption=caption(comparison), box=SIMPLE_HEAD)
    names, split = head(comparison), len(comparison.columns)
    for table, columns in ((metrics, range(split)), (totals, [0, *range(split, len(names))])):
        for column in columns:
            table.add_column(names[column], justify="right" if column else "left", overflow="fold")
        for row in cells(comparison):
            table.add_row(*(row[column] for column in columns), style="bold" if row[0] == comparison.ours else "")
    return Group(metrics, totals)


def markdown(comparison: AbstractComparison[Any]) -> str:
    """One table with all columns, and the caption below it."""
    return f"{markdown_table(head(comparison), cells(comparison))}\n\n{caption(comparison)}\n"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, without a line feed at its end.

    >>> print(markdown_table(["a", "b"], [["1", "2"]]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    escaped = [[cell.replace("|", r"\|").replace("\n", " ") for cell in line] for line in (columns, *rows)]
    names, *lines = [f"| {' | '.join(line)} |" for line in escaped]
    return "\n".join([names, "|" + "---|" * len(columns), *lines])


def write(comparison: AbstractComparison[Any], folder: Path) -> None:
    """comparison.json (means and intervals), comparison.md, and comparison.csv (the values one by one)."""
    write_text(folder / "comparison.json", dumps(comparison.records(), indent=2) + "\n")
    write_text(folder / "comparison.md", markdown(comparison))
    with replacing(folder / "comparison.csv") as name, open(name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["method", comparison.noun, *comparison.columns])
        for label, row in comparison.rows.items():
            texts = zip(*(row.values[metric] for metric in comparison.columns), strict=True)
            writer.writerows([label, i, *values] for i, values in enumerate(texts))


def _interval(value: Mapping[str, Any]) -> str:
    low, high = value["ci95"]
    return f"{value['mean']:.3f}\n[{low:.3f}, {high:.3f}]"
