"""The colour scale: white at zero, orange for, blue against."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explainer.rendering.colour import AGAINST, FOR, NEUTRAL, colour, strengths


def test_the_ends_and_the_middle() -> None:
    assert colour(1.0) == FOR
    assert colour(-1.0) == AGAINST
    assert colour(0.0) == NEUTRAL == (255, 255, 255)


@given(st.floats(-1.0, 1.0))
def test_colours_lie_between_white_and_their_end(strength: float) -> None:
    end = FOR if strength > 0 else AGAINST
    assert all(edge <= part <= 255 for part, edge in zip(colour(strength), end, strict=True))


def test_stronger_is_further_from_white() -> None:
    assert colour(0.9)[2] < colour(0.3)[2]
    assert colour(-0.9)[0] < colour(-0.3)[0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_strengths_keep_sign_order_and_zero(scores: list[float]) -> None:
    found = strengths(scores)
    assert max(abs(value) for value in found) == pytest.approx(1.0 if any(scores) else 0.0)
    assert all(
        (value > 0) <= (score > 0) and (value < 0) <= (score < 0) for value, score in zip(found, scores, strict=True)
    )


@pytest.mark.parametrize("scores", [[], [0.0, 0.0]])
def test_nothing_to_scale_stays_zero(scores: list[float]) -> None:
    assert strengths(scores) == scores
