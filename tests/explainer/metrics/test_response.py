"""Metrics of responses against numbers computed by hand."""

import math

import pytest
import torch

from explainer.metrics.response import LDS, MAS, RISE, Drop, Gain, drop, gain, lds, mas, rise


def test_drop_and_gain_are_differences_in_nats() -> None:
    whole, without = torch.tensor([-1.0, -2.0]), torch.tensor([-4.0, -1.5])
    assert drop(whole, without).tolist() == [3.0, -0.5]
    assert gain(without, whole).tolist() == [3.0, -0.5]


def test_lds_ranks_masks_by_the_sum_of_the_scores_they_keep() -> None:
    kept = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]]).bool()
    scores = torch.tensor([4.0, 2.0, 1.0, 0.0])  # sums 6, 5, 2, 1
    assert lds(kept, torch.tensor([-1.0, -2.0, -3.0, -4.0]), scores) == pytest.approx(1, abs=1e-4)
    assert lds(kept, torch.tensor([-2.0, -1.0, -3.0, -4.0]), scores) == pytest.approx(1 - 6 * 2 / (4 * 15), abs=1e-4)
    assert lds(kept, torch.tensor([-4.0, -3.0, -2.0, -1.0]), scores) == pytest.approx(-1, abs=1e-4)


def test_sums_that_differ_by_rounding_only_are_tied() -> None:
    kept = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).bool()
    scores = torch.tensor([0.1, 0.2, 0.3, 1e-9])  # in single precision 0.1 + 0.2 is not 0.3
    for values in ([-1.0, -2.0, -3.0], [-2.0, -1.0, -3.0]):
        assert lds(kept, torch.tensor(values), scores) == pytest.approx(0.75**0.5, abs=1e-4)


def test_no_metric_of_a_curve_or_of_masks_depends_on_the_unit() -> None:
    kept = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]]).bool()
    values, scores = torch.tensor([-2.0, -1.0, -3.0, -4.0]), torch.tensor([4.0, 2.0, 1.0, 0.0])
    assert lds(kept, values, scores * 1e-9) == lds(kept, values, scores)
    assert rise(values / 8) == rise(values) > 0
    assert mas(values / 8, scores[:3] / 8) == mas(values, scores[:3]) > rise(values)


def test_a_constant_map_counts_zero_over_masks_of_equal_size_and_not_over_others() -> None:
    half = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 1, 1]]).bool()
    values, constant = torch.tensor([-1.0, -2.0, -3.0]), torch.full((3,), 0.1)
    assert lds(half, values, constant) == 0
    free = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0]]).bool()
    assert lds(free, values, constant) == pytest.approx(1, abs=1e-4)
    assert lds(half, torch.full((3,), -2.0), torch.tensor([1.0, 2.0, 3.0])) == 0
    assert math.isnan(lds(half[:1], values[:1], constant))


def test_rise_is_the_area_under_the_normalised_running_minimum() -> None:
    # (l - l_last) / |l_0 - l_last|: 1, 1.5 -> clipped to 1, 0.25, 0.5 -> its minimum 0.25, 0
    values = torch.tensor([-2.0, 0.0, -5.0, -4.0, -6.0])
    assert rise(values) == pytest.approx((1 / 2 + 1 + 0.25 + 0.25 + 0 / 2) / 4)
    assert math.isnan(rise(torch.tensor([-1.0, -3.0, -1.0])))
    # Where taking all away raises l, everything falls to 0 at once.
    assert rise(torch.tensor([-4.0, -4.0, -2.0])) == 0


def test_mas_adds_what_the_scores_promise_otherwise() -> None:
    values = torch.tensor([-2.0, -3.0, -6.0])  # 1, 0.75, 0
    shares = torch.tensor([3.0, 1.0])  # promised: 1, 0.25, 0
    assert rise(values) == pytest.approx((0.5 + 0.75) / 2)
    assert mas(values, shares) == pytest.approx((0.5 + 0.75 + 0.5) / 2)
    assert mas(values, torch.tensor([1.0, 3.0])) == pytest.approx(rise(values))
    assert mas(values, torch.zeros(2)) == pytest.approx(rise(values) + (0.25 + 1 / 2) / 2)


def test_the_classes_are_the_means_over_the_responses_that_have_the_number() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = [torch.rand(8, n, generator=generator) < 0.5 for n in (3, 5)] + [torch.ones(1, 2).bool()]
    values = [torch.randn(len(one), generator=generator) for one in masks]
    scores = [torch.randn(one.shape[1], generator=generator) for one in masks]
    curves = [torch.tensor([0.0, -1.0, -3.0]), torch.tensor([-1.0, -2.0, -2.5]), torch.tensor([-1.0, -2.0, -1.0])]
    shares = [torch.tensor([2.0, 1.0])] * 3
    expected = {
        LDS: [lds(*one) for one in zip(masks, values, scores, strict=True)],
        RISE: [rise(one) for one in curves],
        MAS: [mas(*one) for one in zip(curves, shares, strict=True)],
    }
    for kind, arguments in ((LDS, (masks, values, scores)), (RISE, (curves,)), (MAS, (curves, shares))):
        assert math.isnan(expected[kind][2])  # one mask, and a response that its sources do not change
        metric = kind()
        metric.update(*(one[:1] for one in arguments))
        metric.update(*(one[1:] for one in arguments))
        assert metric.compute().item() == pytest.approx(sum(expected[kind][:2]) / 2)
    for kind, function in ((Drop, drop), (Gain, gain)):
        metric = kind()
        for one in values[:2]:
            metric.update(one[:4], one[4:])
        of_each = torch.cat([function(one[:4], one[4:]) for one in values[:2]])
        assert metric.compute().item() == pytest.approx(of_each.mean().item())
