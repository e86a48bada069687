"""Metrics read from curves, against a straight re-computation, and only what they need run."""

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from explainer.explained import Attributions, EncodedText, ExplainedModel, Target, Tokens
from explainer.faithfulness.aopc_bounds import aopc_bounds
from explainer.faithfulness.curves import DELETE_REST, DELETE_TOP, PERCENTS, REPLACE_TOP, Curves
from explainer.faithfulness.measures import (
    ALL_METRICS,
    HIGHER_IS_BETTER,
    METRIC_SPECS,
    METRICS,
    VALUE_METRICS,
    MetricInputs,
    MetricSpec,
    check_metrics,
    default_metrics,
    faithfulness,
    summary,
    summary_metrics,
)
from explainer.faithfulness.perturbation import Operator, check_operator
from explainer.metrics import MeanOverTexts
from tests.explainer.faithfulness.straight import attributions_of, logits_without, probability, taken_out
from tests.explainer.tools import double, fresh
from tests.families import FAMILIES, TASKS, TEXTS, WITH_SPECIALS, explained

OPERATORS = get_args(Operator)
WHOLE = torch.tensor([0.8, 0.5])
DELETED = torch.tensor([[0.8, 0.8, 0.8, 0.5, 0.2], [0.5, 0.5, 0.5, 0.5, 0.4]])
KEPT = torch.tensor([[0.8, 0.8, 0.8, 0.6, 0.7], [0.5, 0.5, 0.5, 0.9, 0.5]])
REPLACED = torch.tensor([[0.4], [0.25]])
POINTS = torch.cat([WHOLE[:, None], DELETED, KEPT, REPLACED], dim=1)
CURVE = Curves(
    {DELETE_TOP: PERCENTS, DELETE_REST: PERCENTS, REPLACE_TOP: (20.0,)}, torch.full((2, 12), torch.nan), POINTS
)
TEXT_METRICS = [name for name, spec in METRIC_SPECS.items() if not spec.needs_answer]  # the others have their own tests
ON_VALUES = [name for name in TEXT_METRICS if not METRIC_SPECS[name].needs_probabilities]


def read(name: str, curve: Curves) -> Tensor:
    """The metric of given curves."""
    spec, model = METRIC_SPECS[name], explained("bert")
    inputs = MetricInputs(model, Attributions([], Target.of([]), []), curve, spec.operator, 1)
    return spec.metric.function(*spec.read(inputs))


def check(found: Tensor, expected: list[float]) -> None:
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_metrics_are_read_off_their_own_curves() -> None:
    check(read("comprehensiveness", CURVE), [0.3, 0.0])
    check(read("sufficiency", CURVE), [0.2, -0.4])
    check(read("log_odds", CURVE), [-0.6931472, -0.6931472])
    check(read("aopc_comprehensiveness", CURVE), [0.9 / 6, 0.1 / 6])
    check(read("aopc_sufficiency", CURVE), [0.3 / 6, -0.4 / 6])


def test_value_areas_are_those_of_probabilities_with_values_in_their_place() -> None:
    values = Curves(CURVE.plan, POINTS, None)
    check(read("value_aopc_comprehensiveness", values), [0.9 / 6, 0.1 / 6])
    check(read("value_aopc_sufficiency", values), [0.3 / 6, -0.4 / 6])


def test_metrics_are_unmoved_by_other_points_of_the_curves() -> None:
    more = {REPLACE_TOP: (20.0, 90.0), DELETE_REST: PERCENTS, DELETE_TOP: (*PERCENTS, 99.0)}
    columns = torch.cat([WHOLE[:, None], REPLACED, torch.rand(2, 1), KEPT, DELETED, torch.rand(2, 1)], dim=1)
    moved = Curves(more, torch.full((2, 14), torch.nan), columns)
    assert all(torch.equal(read(name, moved), read(name, CURVE)) for name in METRICS)


def test_the_area_is_read_from_values() -> None:
    spec = METRIC_SPECS["morf_lerf_area"]
    most, least = torch.tensor([[4.0, *[1.0] * 9, 0.0]]), torch.tensor([[4.0, *[3.0] * 9, 0.0]])
    curve = Curves(spec.curves_needed(), torch.cat([most, least[:, 1:]], dim=1), torch.rand(1, 21))
    check(read("morf_lerf_area", curve), [1.8])


# The whole way, against the bare model


def straight_area(
    text: EncodedText, scores: Tensor, which: str, operator: str, number: Callable[[set[int], str], float]
) -> float:
    """The sum of the falls at the five percents, divided by six."""
    whole = number(set(), operator)
    return sum(whole - number(taken_out(text, scores, which, p), operator) for p in (1, 5, 10, 20, 50)) / 6


def straight(model: ExplainedModel, text: EncodedText, scores: Tensor, choice: int) -> dict[str, float]:
    """Every metric of one text but normalised AOPC, by the definitions in the papers."""

    def value(taken: set[int], operator: str) -> float:
        return logits_without(model, text, taken, operator)[choice].item()

    def p(taken: set[int], operator: str) -> float:
        return probability(model, logits_without(model, text, taken, operator), choice)

    def taken(which: str, percent: float) -> set[int]:
        return taken_out(text, scores, which, percent)

    most, least = ([value(taken(which, 10.0 * i), "blank") for i in range(11)] for which in ("top", "bottom"))
    values = {
        "value_aopc_comprehensiveness": straight_area(text, scores, "top", "delete", value),
        "value_aopc_sufficiency": straight_area(text, scores, "rest", "delete", value),
        "morf_lerf_area": sum((x + y) / 2 for x, y in itertools.pairwise(b - a for a, b in zip(most, least))) / 10,  # noqa: B905
    }
    if model.task.link == "identity":
        return values
    whole, ninths = p(set(), "delete"), [p(taken("top", 100 * i / 9), "replace") for i in range(1, 10)]
    return values | {
        "comprehensiveness": whole - p(taken("top", 20), "delete"),
        "sufficiency": whole - p(taken("rest", 20), "delete"),
        "log_odds": math.log(p(taken("top", 20), "replace")) - math.log(whole),
        "aopc_comprehensiveness": straight_area(text, scores, "top", "delete", p),
        "aopc_sufficiency": straight_area(text, scores, "rest", "delete", p),
        "mask_lrp_aopc": sum(whole - one for one in ninths) / 9,
        "mask_lrp_log_odds": sum(math.log(one) - math.log(whole) for one in ninths) / 9,
    }


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_faithfulness_is_that_of_a_straight_computation(family: str, task: str) -> None:
    model = explained(family, **TASKS[task])
    given = attributions_of(model, TEXTS[:2], [1, 2] if task != "regression" else [0, 0])
    names = [name for name in (TEXT_METRICS if task != "regression" else ON_VALUES) if name != "normalised_aopc"]
    found = faithfulness(model, given, names)
    for i, (text, scores) in enumerate(zip(given.texts, given.scores, strict=True)):
        expected = straight(model, text, scores, int(given.target.classes[i]))
        assert set(expected) == set(names)
        for name in names:
            assert found[name][i].item() == pytest.approx(expected[name], abs=2e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_another_operator_takes_the_place_of_every_metric_s_own(family: str, operator: Operator, task: str) -> None:
    model = explained(family, **TASKS[task])
    given = attributions_of(model)
    names = summary_metrics(default_metrics(model.task.link))
    found = faithfulness(model, given, names, operator=operator)
    for i, (text, scores) in enumerate(zip(given.texts, given.scores, strict=True)):

        def number(taken: set[int], operator: str, text: EncodedText = text, i: int = i) -> float:
            logits, choice = logits_without(model, text, taken, operator), int(given.target.classes[i])
            return logits[choice].item() if task == "regression" else probability(model, logits, choice)

        for name, which in zip(names, ("top", "rest"), strict=True):
            assert found[name][i].item() == pytest.approx(
                straight_area(text, scores, which, operator, number), abs=2e-5
            )


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", TEXT_METRICS)
def test_every_metric_can_be_measured_with_every_operator(name: str, operator: Operator) -> None:
    model = double("bert")
    given = attributions_of(model, [TEXTS[0], ""])
    own = METRIC_SPECS[name].operator
    found = faithfulness(model, given, [name], operator=operator, beam_width=1)[name]
    default = faithfulness(model, given, [name], beam_width=1)[name]
    assert found.shape == (2,)
    assert not found[0].isnan()
    assert torch.allclose(found[0], default[0]) == (operator == own)


@pytest.mark.parametrize("task", TASKS)
def test_the_defaults_are_those_of_the_task(task: str) -> None:
    model = explained("bert", **TASKS[task])
    found = faithfulness(model, attributions_of(model))
    assert tuple(found) == (VALUE_METRICS if task == "regression" else METRICS) == default_metrics(model.task.link)
    assert all(value.shape == (4,) for value in found.values())
    first, second = summary_metrics(default_metrics(model.task.link))
    assert torch.equal(summary(found), found[first] - found[second])


def test_the_summary_is_of_probabilities_where_there_are_some() -> None:
    values = {name: torch.rand(3) for name in TEXT_METRICS}
    assert torch.equal(summary(values), values["aopc_comprehensiveness"] - values["aopc_sufficiency"])
    on_values = {name: values[name] for name in VALUE_METRICS}
    difference = values["value_aopc_comprehensiveness"] - values["value_aopc_sufficiency"]
    assert torch.equal(summary(on_values), difference)


def test_a_regression_refuses_probabilities_by_name_and_says_what_works() -> None:
    model = explained("bert", **TASKS["regression"])
    message = (
        r"`metrics` comprehensiveness, normalised_aopc need probabilities, .* use morf_lerf_area, "
        r"value_aopc_comprehensiveness, value_aopc_sufficiency\."
    )
    with pytest.raises(ValueError, match=message):
        faithfulness(model, attributions_of(model), ["comprehensiveness", "morf_lerf_area", "normalised_aopc"])


# What is run


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_a_metric_asked_for_alone_is_the_same(name: str) -> None:
    model = double("bert")
    given = attributions_of(model)
    alone = faithfulness(model, given, [name], beam_width=1)
    together = faithfulness(model, given, list(TEXT_METRICS), beam_width=1)
    assert list(alone) == [name]
    assert tuple(together) == tuple(TEXT_METRICS)
    assert torch.allclose(alone[name], together[name], atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_values_do_not_depend_on_the_order_of_the_texts(name: str) -> None:
    model = double("llama")
    given, order = attributions_of(model), [2, 0, 3, 1]
    moved = Attributions([given.texts[i] for i in order], given.target[order], [given.scores[i] for i in order])
    found, other = (faithfulness(model, one, [name], beam_width=2)[name] for one in (given, moved))
    assert torch.allclose(other, found[order], atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(
    ("metrics", "sequences"),
    [
        (["comprehensiveness"], 2),
        (["comprehensiveness", "sufficiency"], 3),
        (["aopc_comprehensiveness"], 6),
        (["comprehensiveness", "aopc_comprehensiveness"], 6),
        (["value_aopc_comprehensiveness", "aopc_comprehensiveness"], 6),
        (list(METRICS), 12),
        (["mask_lrp_aopc", "mask_lrp_log_odds"], 10),
        (["morf_lerf_area"], 21),
        (["log_odds", "mask_lrp_aopc"], 11),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_only_what_the_metrics_need_is_run_in_one_prediction(
    metrics: list[str], sequences: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = explained("bert")
    calls, evaluate = [], type(model).evaluate

    def spy(self: Any, given: list[Tokens], target: Target) -> Any:
        calls.append(len(given))
        return evaluate(self, given, target)

    monkeypatch.setattr(type(model), "evaluate", spy)
    faithfulness(model, attributions_of(model), metrics)
    assert calls == [sequences * len(TEXTS)]


# Properties


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_equal_scores_have_no_area_between_the_curves(family: str, task: str) -> None:
    model = explained(family, **TASKS[task])
    given = attributions_of(model)
    equal = Attributions(given.texts, given.target, [torch.zeros(len(text)) for text in given.texts])
    assert (faithfulness(model, equal, ["morf_lerf_area"])["morf_lerf_area"] == 0).all()


@pytest.mark.parametrize("task", TASKS)
def test_the_area_changes_sign_with_the_scores(task: str) -> None:
    model = explained("bert", **TASKS[task])
    given = attributions_of(model)
    turned = Attributions(given.texts, given.target, [-scores for scores in given.scores])
    found, other = (faithfulness(model, one, ["morf_lerf_area"])["morf_lerf_area"] for one in (given, turned))
    assert found.abs().max() > 1e-3
    assert torch.allclose(found, -other, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", WITH_SPECIALS)
def test_a_text_without_scorable_tokens_is_0_everywhere_and_has_no_normalised_aopc(family: str, task: str) -> None:
    model = explained(family, **TASKS[task])
    given = attributions_of(model, [""], [0])
    found = faithfulness(model, given, ON_VALUES if task == "regression" else list(TEXT_METRICS))
    normalised = found.pop("normalised_aopc", torch.tensor([torch.nan]))
    assert normalised.isnan().all()
    assert all(value.tolist() == [0.0] for value in found.values())


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_nan_scores_are_refused(name: str) -> None:
    model = explained("bert")
    given = attributions_of(model)
    given.scores[1][2] = torch.nan
    with pytest.raises(ValueError, match="`scores` holds NaN"):
        faithfulness(model, given, [name], beam_width=1)


def test_the_best_of_all_orders_is_1_and_the_worst_0() -> None:
    model = explained("bert")
    text = model.encode(["not a good film"])[0]
    positions = text.scorable.nonzero()[:, 0]
    scores = [
        torch.zeros(len(text)).index_put((positions,), torch.tensor(order).float())
        for order in itertools.permutations(range(len(positions)))
    ]
    every_order = Attributions([text] * len(scores), Target.of([1] * len(scores)), scores)
    values = faithfulness(model, every_order, ["normalised_aopc"], beam_width=6)["normalised_aopc"]
    assert values.max().item() == pytest.approx(1, abs=1e-3)
    assert values.min().item() == pytest.approx(0, abs=1e-3)


# The table


class Retained(MeanOverTexts):
    """The share of the probability that is left when half of the tokens are blanked."""

    higher_is_better = False
    function = staticmethod(lambda whole, half: half / whole)


RETAINED = MetricSpec(
    Retained,
    "blank",
    {"top": (50.0,)},
    lambda inputs: (inputs.curves.whole_probability, inputs.probability("top", (50.0,))[:, 0]),
)


def test_a_metric_is_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRIC_SPECS, "retained", RETAINED)
    model = explained("bert")
    given = attributions_of(model)
    assert "retained" in ALL_METRICS
    assert HIGHER_IS_BETTER["retained"] is False
    found = faithfulness(model, given, ["retained", "comprehensiveness"])
    for i, (text, scores) in enumerate(zip(given.texts, given.scores, strict=True)):
        choice = int(given.target.classes[i])
        half = logits_without(model, text, taken_out(text, scores, "top", 50), "blank")
        whole = logits_without(model, text, set(), "blank")
        expected = probability(model, half, choice) / probability(model, whole, choice)
        assert found["retained"][i].item() == pytest.approx(expected, rel=1e-4)
    regression = explained("bert", **TASKS["regression"])
    with pytest.raises(ValueError, match="`metrics` retained need probabilities"):
        faithfulness(regression, attributions_of(regression), ["retained"])


def test_unknown_metrics_and_operators_are_named() -> None:
    model = explained("bert")
    with pytest.raises(ValueError, match=r"`metrics` must be of comprehensiveness, .*, got accuracy"):
        faithfulness(model, attributions_of(model), ["accuracy"])
    with pytest.raises(ValueError, match=r"`metrics` must be of .*, got accuracy"):
        check_metrics(["comprehensiveness", "accuracy"])
    with pytest.raises(ValueError, match="`operator` must be one of delete, replace, blank, hide, got 'erase'"):
        check_operator("erase")


def test_names_and_directions() -> None:
    assert tuple(ALL_METRICS)[:5] == METRICS
    assert set(METRICS) | set(VALUE_METRICS) <= set(ALL_METRICS)
    assert set(VALUE_METRICS) == set(ON_VALUES)
    assert [name for name, high in HIGHER_IS_BETTER.items() if not high] == [
        "sufficiency",
        "log_odds",
        "aopc_sufficiency",
        "mask_lrp_log_odds",
        "value_aopc_sufficiency",
    ]


def test_the_bounds_are_searched_as_widely_as_by_themselves() -> None:
    of_metrics, of_bounds = (inspect.signature(one).parameters["beam_width"] for one in (faithfulness, aopc_bounds))
    assert of_metrics.default == of_bounds.default


def test_equal_scores_rank_by_place_and_one_token_is_never_a_fifth() -> None:
    model = explained("bert")
    texts = model.encode([TEXTS[1], "bad"])
    equal = Attributions(texts, Target.of([0, 0]), [torch.full((len(text),), 0.5) for text in texts])
    falling = Attributions(texts, Target.of([0, 0]), [torch.arange(len(text), 0, -1).float() for text in texts])
    found = faithfulness(model, equal, list(TEXT_METRICS))
    expected = faithfulness(model, falling, list(TEXT_METRICS))
    assert found.pop("morf_lerf_area").tolist() == [0.0, 0.0]
    assert all(torch.equal(value, expected[name]) or name == "normalised_aopc" for name, value in found.items())
    assert found["normalised_aopc"][0] == expected["normalised_aopc"][0]
    assert found["normalised_aopc"][1].isnan()
    assert all(found[name][1] == 0 for name in found if "mask_lrp" not in name and name != "normalised_aopc")


def test_a_probability_of_0_has_finite_metrics() -> None:
    model = fresh("bert")
    with torch.no_grad():
        model.model.classifier.bias.copy_(torch.tensor([-1e4, 0.0, 0.0]))
    given = attributions_of(model, TEXTS[:2], [0, 0])
    found = faithfulness(model, given, list(TEXT_METRICS))
    bounded = {name: value for name, value in found.items() if name != "normalised_aopc"}
    assert found["normalised_aopc"].isnan().all()  # no order makes a difference
    assert all(value.isfinite().all() for value in bounded.values())
    assert found["log_odds"].tolist() == [0.0, 0.0]
