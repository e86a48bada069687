"""The area between two curves, against its definition as a mean."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from explainer.metrics import morf_lerf_area

LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=9, max_size=9)


def curve(inner: list[float]) -> torch.Tensor:
    return torch.tensor([[2.0, *inner, -1.0]])


@given(LOGITS, LOGITS)
def test_it_is_the_mean_difference_over_the_steps(most: list[float], least: list[float]) -> None:
    expected = sum(b - a for a, b in zip(most, least, strict=True)) / 10
    assert morf_lerf_area(curve(most), curve(least)).item() == pytest.approx(expected, abs=1e-4)


@given(LOGITS, LOGITS, st.floats(-50, 50, width=32))
def test_it_is_odd_and_does_not_depend_on_where_the_logits_lie(
    most: list[float], least: list[float], shift: float
) -> None:
    found = morf_lerf_area(curve(most), curve(least))
    assert torch.equal(morf_lerf_area(curve(least), curve(most)), -found)
    assert torch.allclose(morf_lerf_area(curve(most) + shift, curve(least) + shift), found, atol=1e-3)


def test_best_and_worst_of_a_step() -> None:
    at_once, at_last = curve([-1.0] * 9), curve([2.0] * 9)
    assert morf_lerf_area(at_once, at_last).item() == pytest.approx(2.7)
    assert morf_lerf_area(at_last, at_once).item() == pytest.approx(-2.7)
    assert morf_lerf_area(at_once, at_once).item() == 0
