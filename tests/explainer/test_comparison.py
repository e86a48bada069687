"""The comparison table: right estimates, the best other method, paired differences."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from explainer.comparison import COLUMNS, Comparison, targets
from explainer.evaluation import faithfulness, summary
from explainer.methods import method
from explainer.methods.run import scores_of
from tests.families import TEXTS, explained


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Three methods on four texts, which came in two batches."""
    model = explained("bert")
    found = Comparison({"random": method("random"), "sig": method("sig"), "ours": method("leave_one_out")}, ours="ours")
    texts = model.encode(TEXTS)
    for part in (texts[:3], texts[3:]):
        found.update(model, part, targets(model, part))
    return found


def test_values_are_those_of_faithfulness(comparison: Comparison) -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    target = targets(model, texts)
    expected = faithfulness(model, texts, scores_of(method("sig"), model, texts, target), target)
    expected["faithfulness"] = summary(expected)
    for metric in COLUMNS:
        assert comparison.rows["sig"].values[metric] == pytest.approx(expected[metric].tolist(), abs=1e-6)


def test_differences_are_paired_and_to_the_best_other_method(comparison: Comparison) -> None:
    means = {name: np.mean(row.values["faithfulness"]) for name, row in comparison.rows.items()}
    best = max(("random", "sig"), key=lambda name: means[name])
    assert comparison.best_teacher == best
    assert comparison.difference(best) is None
    difference = comparison.difference("ours")
    assert difference is not None
    assert difference.mean == pytest.approx(means["ours"] - means[best])
    assert difference.n == 4


def test_cost_is_in_forward_passes(comparison: Comparison) -> None:
    tokens = [text.n_scorable for text in explained("bert").encode(TEXTS)]
    records = {record["method"]: record for record in comparison.records()}
    assert records["random"]["forward_equivalents"] == 0
    assert records["sig"]["forward_equivalents"] == pytest.approx(np.mean(tokens))
    assert all(record["milliseconds"] > 0 for record in records.values())


def test_table_and_files_tell_the_same(comparison: Comparison, tmp_path: Path) -> None:
    comparison.write(tmp_path)
    records = json.loads((tmp_path / "comparison.json").read_text())
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(comparison.table())
    shown, markdown = console.export_text(), (tmp_path / "comparison.md").read_text()
    for record in records:
        assert f"{record['faithfulness']['mean']:.3f}" in shown
        assert f"{record['faithfulness']['mean']:.3f}" in markdown
    assert len(markdown.splitlines()) == 2 + len(records)
    assert len((tmp_path / "comparison.csv").read_text().splitlines()) == 1 + 3 * 4


def test_targets_are_the_predictions() -> None:
    model = explained("bert")
    batch = model.collate(model.encode(TEXTS))
    assert torch.equal(targets(model, model.encode(TEXTS)), model(batch).argmax(dim=1))
