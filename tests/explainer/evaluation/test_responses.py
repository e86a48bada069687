"""Comparing methods on responses: right values in any order, one set of masks for all methods, the cache."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explainer.evaluation import responses as module
from explainer.evaluation import table
from explainer.evaluation.responses import Constant, ResponseComparison, scored_prompts
from explainer.explained import ExplainedResponse, explain_response
from explainer.faithfulness.responses import RESPONSE_METRICS, response_faithfulness
from explainer.methods import LeaveOneOut, Random
from explainer.methods.captum import InputXGradient
from explainer.methods.responses import attribute_responses
from explainer.storage.cache import Cache
from tests.explainer.explained.test_responses import MESSAGES, model

EXPLAINED = model("llama")
METHODS = {"random": Random(), "leave_one_out": LeaveOneOut(), "gradient": InputXGradient()}


def asked(**options: Any) -> list[ExplainedResponse]:
    """Four responses."""
    prompts: list[Any] = [MESSAGES, "the film was good", "a film. it is fun. so it is", MESSAGES[1:]]
    said = [" good fun", " bad and so", " dull", " fun"]
    return [
        explain_response(EXPLAINED, prompt, response, **{"sources": "word", **options})
        for prompt, response in zip(prompts, said, strict=True)
    ]


def measured(*parts: Sequence[ExplainedResponse], **options: Any) -> ResponseComparison:
    comparison = ResponseComparison(METHODS, **options)
    for part in parts:
        comparison.update(EXPLAINED, part)
    return comparison


def test_values_are_those_of_each_response_by_itself_in_any_order() -> None:
    items = asked()
    whole = measured(items, metrics=list(RESPONSE_METRICS))
    parts = measured(items[2:], [], items[:2], metrics=list(RESPONSE_METRICS))
    assert whole.columns == (*(metric for metric in RESPONSE_METRICS if metric != "lds"), "lds")
    assert list(whole.rows) == ["constant", *METHODS]
    for label, method in {"constant": Constant(), **METHODS}.items():
        for i, one in enumerate(items):
            given = replace(one, score="log_prob") if label == "leave_one_out" else one
            (scores,) = attribute_responses(method, EXPLAINED, [given])
            expected = response_faithfulness(EXPLAINED, one, scores, seed=whole._seeds(items)[i])
            for metric in whole.columns:
                value = whole.rows[label].values[metric][i]
                assert value == pytest.approx(expected[metric], abs=1e-4, nan_ok=True), (label, metric)
                other = parts.rows[label].values[metric][(i + 2) % 4]
                assert other == pytest.approx(value, abs=1e-4, nan_ok=True)
    assert whole.rows["constant"].values["lds"] == [0.0] * 4
    assert len(set(whole._seeds(items))) == 4


def test_what_the_model_says_under_the_masks_is_measured_once_for_all_methods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: list[int] = []
    compute = module.datamodel_values

    def counted(explained: Any, responses: Any, **options: Any) -> Any:
        counts.append(len(responses))
        return compute(explained, responses, **options)

    monkeypatch.setattr(module, "datamodel_values", counted)
    items = asked()
    measured(items[:3], items[3:])
    assert counts == [3, 1]


def test_differences_are_paired_in_every_metric_and_to_the_best_other_method() -> None:
    comparison = measured(asked(), ours="leave_one_out")
    means = {label: float(np.mean(row.values["lds"])) for label, row in comparison.rows.items()}
    best = max((label for label in means if label != "leave_one_out"), key=lambda label: means[label])
    records = {record["method"]: record for record in comparison.records()}
    assert comparison.best_teacher == records["leave_one_out"]["difference_to"] == best
    for metric in comparison.columns:
        ours, theirs = (comparison.rows[label].values[metric] for label in ("leave_one_out", best))
        difference = records["leave_one_out"]["differences"][metric]
        assert difference["mean"] == pytest.approx(np.nanmean(np.subtract(ours, theirs)))
        assert records[best]["differences"][metric] is None
    assert records["leave_one_out"]["difference"] == records["leave_one_out"]["differences"]["lds"]


def test_cost_is_by_source_and_a_foil_doubles_it() -> None:
    items = asked()
    plain, contrasted = measured(items), measured(asked(foil=" so and fun"))
    sources = [len(one.sources) for one in items]
    assert plain.rows["leave_one_out"].forward_equivalents == sources
    assert contrasted.rows["leave_one_out"].forward_equivalents == [2 * n for n in sources]
    assert plain.rows["constant"].forward_equivalents == [0.0] * 4
    assert plain.rows["gradient"].forward_equivalents == [3.0] * 4
    assert plain.rows["random"].values != contrasted.rows["random"].values


def test_the_table_names_metrics_operators_and_the_number_of_responses() -> None:
    comparison = measured(asked(), operator="hide", metrics=["rise", "drop_at_1"])
    head = ["method", "RISE ↓", "drop@1 ↑", "LDS ↑", f"Δ to {comparison.best_teacher}"]
    assert table.head(comparison) == [*head, "forward passes", "ms per response"]
    sentence = "Sources are replaced by the end-of-text token for RISE; hidden from attention for drop@1, LDS."
    assert table.caption(comparison).startswith("LDS: ")
    assert table.caption(comparison).endswith(sentence)


def test_the_first_prompts_are_shown_with_the_scores_of_their_sources() -> None:
    items = asked(sources="sentence")
    comparison = measured(items, keep=3)
    shown = scored_prompts(EXPLAINED, comparison, items)
    assert [list(one) for one in shown] == [["constant", *METHODS]] * 3
    for one, response in zip(shown, items, strict=False):
        for label, scored in one.items():
            units, scores = scored.units(), comparison.rows[label].scores[items.index(response)].tolist()
            assert [unit.score for unit in units] == pytest.approx(scores, abs=1e-5)
            assert [unit.word for unit in units] == [source.text.strip() for source in response.sources]
            assert scored.text.strip().startswith(response.sources[0].text)
            assert scored.text.strip().endswith(response.sources[-1].text)
            assert scored.caption.headline == response.response.strip()


def test_the_cache_gives_the_same_and_knows_what_changes_the_values(tmp_path: Path) -> None:
    cache, items = Cache.of(EXPLAINED, tmp_path), asked()
    first, again = measured(items, cache=cache), ResponseComparison(METHODS, cache=cache)
    files = set(tmp_path.iterdir())
    again.update(EXPLAINED, items)
    assert again.records() == first.records()
    assert set(tmp_path.iterdir()) == files

    def known(label: str = "leave_one_out", asked: Sequence[ExplainedResponse] = items, **options: Any) -> bool:
        return ResponseComparison(METHODS, cache=cache, **options).measured(label, EXPLAINED, asked)

    assert known(metrics=["gain_at_5"])
    assert known(asked=[replace(one, score="log_prob") for one in items])  # what leave-one-out explains anyway
    assert not known("gradient", [replace(one, score="log_prob") for one in items])
    assert not known(operator="hide")
    assert not known(n_masks=8)
    assert not known(seed=1)
    assert not known(asked=items[:2])
    assert not known(asked=asked(foil=" so and fun"))
    assert not known(asked=asked(sources="token"))
    assert not known(asked=[one.with_target(token=0) for one in items])


def test_unknown_metrics_are_refused_before_anything_is_measured() -> None:
    with pytest.raises(ValueError, match="`metrics` of responses must be of drop_at_1, "):
        ResponseComparison(METHODS, metrics=["accuracy"])
