"""AOPC between its bounds."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from explainer.metrics import NormalisedAOPC, normalised_aopc


def value(aopc: float, lower: float, upper: float) -> float:
    return normalised_aopc(torch.tensor([aopc]), torch.tensor([lower]), torch.tensor([upper])).item()


@given(st.floats(0, 1, width=32), st.floats(-0.5, 0.5, width=32), st.floats(0.125, 0.5, width=32))
def test_a_share_of_the_way_is_that_share(share: float, lower: float, span: float) -> None:
    assert value(lower + share * span, lower, lower + span) == pytest.approx(share, abs=1e-5)


def test_the_ends() -> None:
    assert value(0.25, 0.25, 0.5) == 0
    assert value(0.5, 0.25, 0.5) == 1


def test_beyond_bounds_that_were_searched_too_narrowly_it_is_not_cut() -> None:
    assert value(0.625, 0.25, 0.5) == 1.5
    assert value(0.125, 0.25, 0.5) == -0.5


@pytest.mark.parametrize(("lower", "upper"), [(0.2, 0.2), (0.2, 0.200001), (0.0, 1e-5), (torch.nan, torch.nan)])
def test_where_no_order_makes_a_difference_it_is_not_defined(lower: float, upper: float) -> None:
    assert torch.tensor(value(0.2, lower, upper)).isnan()


def test_the_class_leaves_those_texts_out() -> None:
    metric = NormalisedAOPC()
    metric.update(torch.tensor([0.3, 0.2]), torch.tensor([0.1, 0.2]), torch.tensor([0.5, 0.2]))
    assert metric.compute().item() == pytest.approx(0.5)
    metric.update(torch.tensor([0.5]), torch.tensor([0.1]), torch.tensor([0.5]))
    assert metric.compute().item() == pytest.approx(0.75)
