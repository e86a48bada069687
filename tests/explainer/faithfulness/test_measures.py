"""Metrics read from curves, and only what they need run."""

import itertools

import pytest
import torch

from explainer.explained import ExplainedModel, Tokens
from explainer.faithfulness.aopc_bounds import aopc_bounds
from explainer.faithfulness.measures import (
    ALL_METRICS,
    HIGHER_IS_BETTER,
    METRICS,
    READINGS,
    faithfulness,
    read_metrics,
    summary,
)
from explainer.faithfulness.perturbation import Curves, curves
from tests.explainer.tools import double, encoded
from tests.families import explained

TARGET = torch.tensor([0, 1, 2, 0])
PERCENTS = (1.0, 5.0, 10.0, 20.0, 50.0)
WHOLE = torch.tensor([0.8, 0.5])
REMOVED = torch.tensor([[0.8, 0.8, 0.8, 0.5, 0.2], [0.5, 0.5, 0.5, 0.5, 0.4]])
KEPT = torch.tensor([[0.8, 0.8, 0.8, 0.6, 0.7], [0.5, 0.5, 0.5, 0.9, 0.5]])
REPLACED = torch.tensor([[0.4], [0.25]])
PROBABILITIES = torch.cat([WHOLE[:, None], REMOVED, KEPT, REPLACED], dim=1)
CURVE = Curves(
    {"removed": PERCENTS, "kept": PERCENTS, "replaced": (20.0,)}, torch.full((2, 12), torch.nan), PROBABILITIES
)


def check(found: torch.Tensor, expected: list[float]) -> None:
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_metrics_are_read_off_their_own_curves() -> None:
    values = read_metrics(CURVE)
    assert tuple(values) == METRICS
    check(values["comprehensiveness"], [0.3, 0.0])
    check(values["sufficiency"], [0.2, -0.4])
    check(values["log_odds"], [-0.6931472, -0.6931472])
    check(values["aopc_comprehensiveness"], [0.9 / 6, 0.1 / 6])
    check(values["aopc_sufficiency"], [0.3 / 6, -0.4 / 6])


def test_metrics_are_unmoved_by_other_points_of_the_curves() -> None:
    more = {"replaced": (20.0, 90.0), "kept": PERCENTS, "removed": (*PERCENTS, 99.0)}
    columns = torch.cat([WHOLE[:, None], REPLACED, torch.rand(2, 1), KEPT, REMOVED, torch.rand(2, 1)], dim=1)
    values = read_metrics(Curves(more, torch.full((2, 14), torch.nan), columns))  # type: ignore[arg-type]
    assert all(torch.equal(value, read_metrics(CURVE)[name]) for name, value in values.items())


def test_the_area_is_read_from_logits() -> None:
    most, least = torch.tensor([[4.0, *[1.0] * 9, 0.0]]), torch.tensor([[4.0, *[3.0] * 9, 0.0]])
    tenths = tuple(10.0 * step for step in range(1, 11))
    curve = Curves(
        {"blanked": tenths, "blanked_least": tenths}, torch.cat([most, least[:, 1:]], dim=1), torch.rand(1, 21)
    )
    check(read_metrics(curve, ["morf_lerf_area"])["morf_lerf_area"], [1.8])


def test_the_summary_is_the_difference_of_the_areas() -> None:
    check(summary(read_metrics(CURVE)), [0.6 / 6, 0.5 / 6])


def scores_for(model: ExplainedModel) -> list[torch.Tensor]:
    return [torch.randn(len(text)) for text in encoded(model)]


def test_faithfulness_runs_the_curves() -> None:
    model = double("bert")
    texts, scores = encoded(model), scores_for(model)
    found = faithfulness(model, texts, scores, TARGET)
    expected = read_metrics(curves(model, texts, scores, TARGET))
    assert tuple(found) == METRICS
    assert all(torch.allclose(found[name], expected[name], atol=1e-7) for name in METRICS)
    assert all(value.shape == (4,) for value in found.values())


@pytest.mark.parametrize("name", ALL_METRICS)
def test_a_metric_asked_for_alone_is_the_same(name: str) -> None:
    model = double("bert")
    texts, scores = encoded(model), scores_for(model)
    alone = faithfulness(model, texts, scores, TARGET, [name], beam_width=1)
    together = faithfulness(model, texts, scores, TARGET, ALL_METRICS, beam_width=1)
    assert list(alone) == [name]
    assert tuple(together) == ALL_METRICS
    assert torch.allclose(alone[name], together[name], atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", ALL_METRICS)
def test_values_do_not_depend_on_the_order_of_the_texts(name: str) -> None:
    model = double("llama")
    texts, scores, order = encoded(model), scores_for(model), [2, 0, 3, 1]
    found = faithfulness(model, texts, scores, TARGET, [name], beam_width=2)[name]
    moved = faithfulness(
        model, [texts[i] for i in order], [scores[i] for i in order], TARGET[order], [name], beam_width=2
    )[name]
    assert torch.allclose(moved, found[order], atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    ("metrics", "rows"),
    [
        (["comprehensiveness"], 2),
        (["comprehensiveness", "sufficiency"], 3),
        (["aopc_comprehensiveness"], 6),
        (["comprehensiveness", "aopc_comprehensiveness"], 6),
        (list(METRICS), 12),
        (["mask_lrp_aopc", "mask_lrp_log_odds"], 10),
        (["morf_lerf_area"], 21),
        (["log_odds", "mask_lrp_aopc"], 11),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_only_what_the_metrics_need_is_run_in_one_prediction(
    metrics: list[str], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = explained("bert")
    texts, calls, predict = encoded(model), [], model.predict

    def spy(tokens: list[Tokens]) -> torch.Tensor:
        calls.append(len(tokens))
        return predict(tokens)

    monkeypatch.setattr(model, "predict", spy)
    faithfulness(model, texts, scores_for(model), TARGET, metrics)
    assert calls == [rows * len(texts)]


def test_keeping_everything_is_fully_sufficient() -> None:
    model = explained("bert")
    texts = encoded(model)
    curve = curves(model, texts, scores_for(model), TARGET, {"kept": (100.0,)})
    assert torch.equal(curve.kept[:, 0], curve.whole)


def test_scores_that_tell_nothing_have_no_area_between_the_curves() -> None:
    model = explained("bert")
    texts = encoded(model)
    found = faithfulness(model, texts, [torch.zeros(len(text)) for text in texts], TARGET, ["morf_lerf_area"])
    assert (found["morf_lerf_area"] == 0).all()


def test_the_area_changes_sign_with_the_scores() -> None:
    model = double("bert")
    texts, scores = encoded(model), scores_for(model)
    found, other = (
        faithfulness(model, texts, [sign * row for row in scores], TARGET, ["morf_lerf_area"])["morf_lerf_area"]
        for sign in (1, -1)
    )
    assert found.abs().max() > 1e-3
    assert torch.allclose(found, -other, atol=1e-6)


def test_bounds_that_are_known_are_not_searched_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = explained("bert")
    texts, scores = encoded(model), scores_for(model)
    bounds = aopc_bounds(model, texts, TARGET, beam_width=1)
    expected = faithfulness(model, texts, scores, TARGET, ["normalised_aopc"], beam_width=1)
    monkeypatch.setattr("explainer.faithfulness.measures.aopc_bounds", lambda *_: pytest.fail("searched"))
    found = faithfulness(model, texts, scores, TARGET, ["normalised_aopc"], bounds=bounds)
    assert torch.allclose(found["normalised_aopc"], expected["normalised_aopc"], equal_nan=True)


def test_the_best_of_all_orders_is_1_and_the_worst_0() -> None:
    model = explained("bert")
    text = model.encode(["not a good film"])[0]
    places = text.scorable.nonzero()[:, 0]
    scores = []
    for order in itertools.permutations(range(len(places))):
        scores.append(torch.zeros(len(text)).index_put((places,), torch.tensor(order).float()))
    target: torch.Tensor = torch.ones(len(scores), dtype=torch.int64)
    found = faithfulness(model, [text] * len(scores), scores, target, ["normalised_aopc"], beam_width=6)
    values = found["normalised_aopc"]
    assert values.max().item() == pytest.approx(1, abs=1e-3)
    assert values.min().item() == pytest.approx(0, abs=1e-3)


def test_unknown_metrics_are_named() -> None:
    model = explained("bert")
    with pytest.raises(ValueError, match=r"`metrics` must be of comprehensiveness, .*, got accuracy"):
        faithfulness(model, encoded(model), scores_for(model), TARGET, ["accuracy"])


def test_names_and_directions() -> None:
    assert ALL_METRICS[:5] == METRICS
    assert set(READINGS) | {"normalised_aopc"} == set(ALL_METRICS)
    assert [name for name, high in HIGHER_IS_BETTER.items() if not high] == [
        "sufficiency",
        "log_odds",
        "aopc_sufficiency",
        "mask_lrp_log_odds",
    ]
