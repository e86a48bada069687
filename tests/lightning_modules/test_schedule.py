"""Weights over the course of training."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.schedule import check_weight, weight_at


@given(st.floats(0, 1), st.floats(0, 5))
def test_a_number_is_constant(progress: float, weight: float) -> None:
    assert weight_at(weight, progress) == weight


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 1.0), (0.2, 1.0), (0.3, 0.5), (0.4, 0.0), (0.7, 0.0), (0.8, 2.0), (1.0, 2.0)]
)
def test_points_are_joined_by_lines_and_jumps(progress: float, expected: float) -> None:
    points = [[0.2, 1], [0.4, 0], [0.8, 0], [0.8, 2]]
    assert weight_at(points, progress) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-1.0, "negative"),
        (float("nan"), "finite"),
        ([[0.0, float("inf")]], "finite"),
        ([[float("nan"), 1]], "rising"),
        ([], "list of"),
        ([[0.0]], "list of"),
        ([[0.5, 1], [0.2, 1]], "rising"),
        ([[0.0, 1], [1.5, 1]], "rising"),
        ([[0.0, -1]], "negative"),
    ],
)
def test_wrong_weights_are_named(weight: float | list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=f"`kept`.*{message}"):
        check_weight("kept", weight)
