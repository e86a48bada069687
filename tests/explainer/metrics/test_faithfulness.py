"""Faithfulness from probabilities: closed forms, and classes that add up over batches."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explainer import metrics
from explainer.metrics import aopc, comprehensiveness, log_odds, sufficiency

SINGLE = {"Comprehensiveness": comprehensiveness, "Sufficiency": sufficiency, "LogOdds": log_odds}
CURVE = {"AOPCComprehensiveness": aopc, "AOPCSufficiency": aopc}
HIGHER = {"Comprehensiveness": True, "Sufficiency": False, "LogOdds": False}
HIGHER |= {"AOPCComprehensiveness": True, "AOPCSufficiency": False}
PROBABILITY = st.floats(2**-10, 1.0, width=32)


@given(PROBABILITY, PROBABILITY)
def test_single_values_in_closed_form(whole: float, other: float) -> None:
    p, q = torch.tensor([whole]), torch.tensor([other])
    assert comprehensiveness(p, q).item() == pytest.approx(whole - other, abs=1e-6)
    assert sufficiency(p, q).item() == pytest.approx(whole - other, abs=1e-6)
    assert log_odds(p, q).item() == pytest.approx(math.log(other / whole), abs=1e-5)


def test_log_odds_of_a_probability_of_0_is_finite_and_low() -> None:
    value = log_odds(torch.tensor([1.0]), torch.tensor([0.0])).item()
    assert math.isfinite(value)
    assert value < -80


def test_nothing_changed_is_0_everywhere() -> None:
    p = torch.rand(6)
    for function in SINGLE.values():
        assert (function(p, p) == 0).all()
    assert (aopc(p, p[:, None].expand(6, 5)) == 0).all()


def test_aopc_divides_by_the_percents_and_one() -> None:
    whole, perturbed = torch.rand(4), torch.rand(4, 5)
    expected = [sum(whole[i].item() - p for p in perturbed[i].tolist()) / 6 for i in range(4)]
    assert torch.allclose(aopc(whole, perturbed), torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("name", [*SINGLE, *CURVE])
def test_classes_are_the_mean_over_texts_however_batched(name: str) -> None:
    function = (SINGLE | CURVE)[name]
    whole = torch.rand(11) * 0.9 + 0.1
    other = torch.rand(11, 5) * 0.9 + 0.1 if name in CURVE else torch.rand(11) * 0.9 + 0.1
    expected = function(whole, other).mean()
    metric = getattr(metrics, name)()
    for part in (slice(0, 1), slice(1, 8), slice(8, 11)):
        metric.update(whole[part], other[part])
    assert torch.allclose(metric.compute(), expected, atol=1e-6)
    metric.reset()
    metric.update(whole[:2], other[:2])
    assert torch.allclose(metric.compute(), function(whole[:2], other[:2]).mean(), atol=1e-6)


@pytest.mark.parametrize("name", HIGHER)
def test_higher_is_better_says_which_way(name: str) -> None:
    kind: type[metrics.MeanOverTexts] = getattr(metrics, name)
    assert kind.higher_is_better is HIGHER[name]
    assert kind().higher_is_better is HIGHER[name]


@settings(deadline=None)
@given(st.lists(PROBABILITY, min_size=1, max_size=8))
def test_forward_gives_the_batch_s_value(values: list[float]) -> None:
    whole = torch.ones(len(values))
    metric = metrics.Comprehensiveness()
    metric.update(torch.ones(3), torch.zeros(3))
    assert metric(whole, torch.tensor(values)).item() == pytest.approx(1 - sum(values) / len(values), abs=1e-5)
    assert metric.compute().item() == pytest.approx((3 + len(values) - sum(values)) / (3 + len(values)), abs=1e-5)
