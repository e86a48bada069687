"""Comparing methods: right estimates, the best other method, paired differences, the cache."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from explainer.evaluation.comparison import SUMMARY, Comparison, TargetedTexts
from explainer.explained import EncodedText, ExplainedModel, Target
from explainer.faithfulness import aopc_bounds as bounds_module
from explainer.faithfulness.measures import (
    METRIC_SPECS,
    METRICS,
    VALUE_METRICS,
    MetricSpec,
    faithfulness,
    summary,
)
from explainer.faithfulness.perturbation import Operator
from explainer.methods import SIG, LeaveOneOut, Random
from explainer.metrics import AOPCSufficiency
from explainer.storage.cache import Cache
from tests.explainer.tools import Bound
from tests.families import TASKS, TEXTS, explained


def measured(model: ExplainedModel, comparison: Comparison, texts: list[str] = TEXTS) -> Comparison:
    """The comparison with the texts in it, explained for the label predicted (of a regression, its value)."""
    encoded = model.encode(texts)
    comparison.update(model, TargetedTexts(encoded, model.predicted(encoded)))
    return comparison


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Three methods on four texts, which came in two batches."""
    found = Comparison({"random": Random(), "sig": SIG(), "ours": LeaveOneOut()}, ours="ours")
    for part in (TEXTS[:3], TEXTS[3:]):
        measured(explained("bert"), found, part)
    return found


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("operator", [None, *get_args(Operator)])
def test_values_are_those_of_faithfulness(task: str, operator: Operator | None) -> None:
    model = explained("bert", **TASKS[task])
    comparison = measured(model, Comparison({"sig": SIG()}, operator=operator))
    texts = model.encode(TEXTS)
    expected = faithfulness(model, SIG().attribute(model, texts, model.predicted(texts)), operator=operator)
    expected[SUMMARY] = summary(expected)
    assert comparison.columns == (*(VALUE_METRICS if task == "regression" else METRICS), SUMMARY)
    for metric in comparison.columns:
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


def test_rows_of_others_are_added(comparison: Comparison) -> None:
    methods = {"random": Random(), "sig": SIG(), "ours": LeaveOneOut()}
    whole = Comparison(methods, ours="ours", keep=4)
    for part in (TEXTS[:3], TEXTS[3:]):
        whole.add(measured(explained("bert"), Comparison(methods, keep=4), part).rows)
    for label, row in comparison.rows.items():
        for metric, values in row.values.items():
            assert whole.rows[label].values[metric] == pytest.approx(values, abs=1e-6)
        assert whole.rows[label].forward_equivalents == row.forward_equivalents
        assert len(whole.rows[label].scores) == whole.rows[label].n == 4


def test_cost_is_in_forward_passes(comparison: Comparison) -> None:
    tokens = [text.n_scorable for text in explained("bert").encode(TEXTS)]
    records = {record["method"]: record for record in comparison.records()}
    assert records["random"]["forward_equivalents"] == 0
    assert records["sig"]["forward_equivalents"] == pytest.approx(np.mean(tokens))
    assert all(record["milliseconds"] > 0 for record in records.values())


def test_a_record_says_what_it_measured(comparison: Comparison) -> None:
    for record in comparison.records():
        assert set(record) == {
            *(METRICS),
            *("method", "n", "faithfulness", "difference_to", "difference", "differences"),
            *("forward_equivalents", "milliseconds", "operators"),
        }
        assert record["n"] == 4
        assert record["operators"] == {metric: METRIC_SPECS[metric].operator for metric in METRICS}
    hidden = measured(explained("bert"), Comparison({"random": Random()}, operator="hide"))
    assert hidden.records()[0]["operators"] == dict.fromkeys(METRICS, "hide")


def test_a_bound_is_labelled_and_no_method_to_reach() -> None:
    comparison = measured(explained("bert"), Comparison({"upper": Bound(), "random": Random(seed=1)}, keep=3))
    assert [record["method"] for record in comparison.records()] == ["upper (bound)", "random"]
    assert comparison.is_bound("upper (bound)")
    assert comparison.best_teacher == "random"
    assert [len(row.scores) for row in comparison.rows.values()] == [3, 3]


def test_a_label_that_reads_like_a_bound_is_none() -> None:
    comparison = measured(explained("bert"), Comparison({"my (bound) method": Random()}))
    assert not comparison.is_bound("my (bound) method")
    assert comparison.best_teacher == "my (bound) method"


@pytest.mark.parametrize("task", TASKS)
def test_the_areas_of_the_one_number_are_always_measured(task: str) -> None:
    model = explained("bert", **TASKS[task])
    comparison = measured(model, Comparison({"random": Random()}, metrics=["morf_lerf_area"]))
    kind = "value_aopc" if task == "regression" else "aopc"
    assert comparison.columns == ("morf_lerf_area", f"{kind}_comprehensiveness", f"{kind}_sufficiency", SUMMARY)
    texts = model.encode(TEXTS)
    given = Random().attribute(model, texts, model.predicted(texts))
    expected = faithfulness(model, given, ["morf_lerf_area"])["morf_lerf_area"]
    assert comparison.rows["random"].values["morf_lerf_area"] == pytest.approx(expected.tolist())


def test_a_metric_is_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    percents = (25.0, 75.0)
    spec = MetricSpec(
        AOPCSufficiency,
        "hide",
        {"rest": percents},
        lambda inputs: (inputs.curves.whole_probability, inputs.probability("rest", percents)),
    )
    monkeypatch.setitem(METRIC_SPECS, "hidden_rest", spec)
    model = explained("bert")
    comparison = measured(model, Comparison({"random": Random()}, metrics=["hidden_rest"]))
    assert comparison.columns[0] == "hidden_rest"
    texts = model.encode(TEXTS)
    given = Random().attribute(model, texts, model.predicted(texts))
    expected = faithfulness(model, given, ["hidden_rest"])["hidden_rest"]
    (record,) = comparison.records()
    assert record["hidden_rest"]["mean"] == pytest.approx(expected.mean().item())
    assert record["operators"]["hidden_rest"] == "hide"


def test_unknown_metrics_are_refused_before_anything_is_measured() -> None:
    with pytest.raises(ValueError, match=r"`metrics` must be of .*, got accuracy"):
        Comparison({"random": Random()}, metrics=["accuracy"])


def test_the_bounds_of_normalised_aopc_are_found_once_for_all_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    search = bounds_module._search

    def counted(explained: ExplainedModel, texts: list[EncodedText], *arguments: Any) -> Any:
        searched.append(len(texts))
        return search(explained, texts, *arguments)

    monkeypatch.setattr(bounds_module, "_search", counted)
    monkeypatch.setattr(bounds_module, "_KEPT", type(bounds_module._KEPT)())
    model = explained("bert")
    comparison = Comparison({"random": Random(), "sig": SIG()}, metrics=["normalised_aopc"])
    measured(model, comparison, TEXTS[:2])
    measured(model, comparison, TEXTS[1:3])
    assert searched == [2, 0, 1, 0]


# The cache


def test_seconds_are_those_of_the_computation_and_not_of_reading(tmp_path: Path) -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    items, cache = TargetedTexts(texts, model.predicted(texts)), Cache.of(model, tmp_path)
    first, again = (Comparison({"sig": SIG()}, cache=cache) for _ in range(2))
    assert not first.measured("sig", model, items)
    first.update(model, items)
    assert again.measured("sig", model, items)
    again.update(model, items)
    assert again.rows["sig"].seconds == first.rows["sig"].seconds > 0
    assert again.records() == first.records()


def test_what_changes_the_values_changes_the_key(tmp_path: Path) -> None:
    model = explained("bert")
    texts = model.encode(TEXTS)
    target, cache = Target.of([0, 1, 2, 0]), Cache.of(model, tmp_path)
    items = TargetedTexts(texts, target)
    Comparison({"sig": SIG()}, cache=cache).update(model, items)

    def known(asked: Target = target, n_steps: int | None = None, **options: Any) -> bool:
        comparison = Comparison({"sig": SIG(n_steps)}, cache=cache, **options)
        return comparison.measured("sig", model, TargetedTexts(texts, asked))

    assert known()
    assert not known(n_steps=3)
    assert not known(target[torch.tensor([1, 0, 2, 3])])
    assert not known(Target(target.choices, score="log_prob"))
    assert not known(metrics=["morf_lerf_area"])
    assert not known(operator="hide")
    other = explained("bert", **TASKS["multi_label"])
    assert not Comparison({"sig": SIG()}, cache=Cache.of(other, tmp_path)).measured("sig", other, items)
