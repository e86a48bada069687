"""The comparison table: right estimates, the best other method, paired differences."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from explainer import comparison as comparison_module
from explainer.evaluation.comparison import COLUMNS, Comparison, targets
from explainer.faithfulness.aopc_bounds import aopc_bounds
from explainer.faithfulness.measures import faithfulness, summary
from explainer.methods import method
from explainer.methods.run import scores_of
from explainer.storage.cache import Cache
from tests.explainer.tools import Bound
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


def test_a_bound_is_labelled_and_no_method_to_reach() -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    found = Comparison({"upper": Bound(), "random": method("random")}, keep=3)
    found.update(model, texts, targets(model, texts))
    assert [record["method"] for record in found.records()] == ["upper (bound)", "random"]
    assert found.is_bound("upper (bound)")
    assert found.best_teacher == "random"
    assert [len(row.scores) for row in found.rows.values()] == [3, 3]


def test_the_metrics_asked_for_are_measured_beside_the_areas_of_the_one_number() -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    found = Comparison({"random": method("random")}, metrics=["morf_lerf_area"])
    found.update(model, texts, targets(model, texts))
    assert found.columns == ("morf_lerf_area", "aopc_comprehensiveness", "aopc_sufficiency", "faithfulness")
    assert len(found.head()) == len(found.cells()[0])
    scores = scores_of(method("random"), model, texts, targets(model, texts))
    expected = faithfulness(model, texts, scores, targets(model, texts), ["morf_lerf_area"])["morf_lerf_area"]
    assert found.rows["random"].values["morf_lerf_area"] == pytest.approx(expected.tolist())


def test_the_bounds_of_normalised_aopc_are_found_once_for_all_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return aopc_bounds(*arguments)

    monkeypatch.setattr(comparison_module, "aopc_bounds", counted)
    model = explained("bert")
    texts = model.encode(TEXTS[:3])
    found = Comparison({"random": method("random"), "sig": method("sig")}, metrics=["normalised_aopc"])
    found.update(model, texts, targets(model, texts))
    assert len(calls) == 1
    found.update(model, texts[:2], targets(model, texts[:2]))
    assert len(calls) == 2


def test_seconds_are_those_of_the_computation_and_not_of_reading(tmp_path: Path) -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    target, cache = targets(model, texts), Cache.of(model, tmp_path)
    first, again = (Comparison({"sig": method("sig")}, cache=cache) for _ in range(2))
    assert not first.measured("sig", texts, target)
    first.update(model, texts, target)
    assert again.measured("sig", texts, target)
    again.update(model, texts, target)
    assert again.rows["sig"].seconds == first.rows["sig"].seconds > 0
    assert again.records() == first.records()
