"""The table of a comparison: the same numbers in the terminal, in Markdown and in files, and every operator named."""

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from explainer.evaluation import table
from explainer.evaluation.comparison import Comparison, TargetedTexts
from explainer.faithfulness.measures import HIGHER_IS_BETTER, METRICS
from explainer.methods import SIG, Random
from tests.families import TASKS, TEXTS, explained


@pytest.fixture(scope="module", params=TASKS)
def comparison(request: pytest.FixtureRequest) -> Comparison:
    """Two methods on four texts, of a model of each task."""
    model = explained("bert", **TASKS[request.param])
    texts = model.encode(TEXTS)
    found = Comparison({"random": Random(), "sig": SIG()}, ours="sig")
    found.update(model, TargetedTexts(texts, model.predicted(texts)))
    return found


def shown(comparison: Comparison) -> str:
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(table.terminal(comparison))
    return console.export_text()


def test_table_and_files_have_the_same_numbers(comparison: Comparison, tmp_path: Path) -> None:
    table.write(comparison, tmp_path)
    records = json.loads((tmp_path / "comparison.json").read_text())
    markdown = (tmp_path / "comparison.md").read_text()
    assert markdown == table.markdown(comparison)
    assert records == comparison.records()
    for record in records:
        for metric in comparison.columns:
            assert f"{record[metric]['mean']:.3f}" in shown(comparison)
            assert f"{record[metric]['mean']:.3f}" in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(records)


def test_the_csv_has_the_values_of_every_text(comparison: Comparison, tmp_path: Path) -> None:
    table.write(comparison, tmp_path)
    with (tmp_path / "comparison.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * len(TEXTS)
    for label, row in comparison.rows.items():
        own = [line for line in lines if line["method"] == label]
        assert [int(line["text"]) for line in own] == [0, 1, 2, 3]
        for metric in comparison.columns:
            assert [float(line[metric]) for line in own] == row.values[metric]


def test_every_cell_has_a_head_with_its_direction(comparison: Comparison) -> None:
    head, cells = table.head(comparison), table.cells(comparison)
    assert {len(row) for row in cells} == {len(head)}
    for metric, name in zip(comparison.columns, head[1:], strict=False):
        assert name.endswith("↑" if HIGHER_IS_BETTER.get(metric, True) else "↓")
    assert head[-3:] == ["Δ to random", "forward passes", "ms per text"]


def test_the_caption_names_the_operator_of_every_metric() -> None:
    model = explained("bert")
    texts = model.encode(TEXTS[:2])
    own, hidden = (Comparison({"random": Random()}, operator=operator) for operator in (None, "hide"))
    for comparison in (own, hidden):
        comparison.update(model, TargetedTexts(texts, model.predicted(texts)))
    assert table.caption(own).endswith(
        "Tokens are deleted for comp@20, suff@20, AOPC-comp, AOPC-suff; replaced by the baseline token for log-odds@20."
    )
    assert table.caption(hidden).endswith(
        "Tokens are hidden from attention for comp@20, suff@20, log-odds@20, AOPC-comp, AOPC-suff."
    )
    assert table.caption(own).startswith("comp − suff: AOPC-comp minus AOPC-suff, of the same scores.")
    for text in (table.markdown(own), " ".join(shown(own).split())):
        assert table.caption(own) in text
    assert set(own.operators) == set(METRICS)


def test_the_caption_of_a_regression_names_values() -> None:
    model = explained("bert", **TASKS["regression"])
    texts = model.encode(TEXTS[:2])
    comparison = Comparison({"random": Random()})
    comparison.update(model, TargetedTexts(texts, model.predicted(texts)))
    assert table.caption(comparison) == (
        "comp − suff: value AOPC-comp minus value AOPC-suff, of the same scores. A backward pass counts as two forward "
        "passes. Tokens are deleted for value AOPC-comp, value AOPC-suff; given a zero embedding for morf_lerf_area."
    )
