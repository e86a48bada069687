"""The colour scale: white at zero, orange for, blue against; ink that is read on all of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explainer.rendering.colour import AGAINST, FOR, NEUTRAL, colour, contrast, ink_on, strengths


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
    shades = strengths(scores)
    assert max(abs(value) for value in shades) == pytest.approx(1.0 if any(scores) else 0.0)
    assert all(
        (value > 0) <= (score > 0) and (value < 0) <= (score < 0) for value, score in zip(shades, scores, strict=True)
    )


@pytest.mark.parametrize("scores", [[], [0.0, 0.0]])
def test_nothing_to_scale_stays_zero(scores: list[float]) -> None:
    assert strengths(scores) == scores


@given(st.floats(-1.0, 1.0), st.tuples(*[st.integers(0, 255)] * 3))
def test_ink_is_readable_on_any_colour(strength: float, paper: tuple[int, int, int]) -> None:
    background = colour(strength, paper)
    assert contrast(ink_on(background), background) >= 4.5


def test_contrast_is_that_of_wcag() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((118, 118, 118), (255, 255, 255)) == pytest.approx(4.54, abs=0.005)  # the known #767676
    assert contrast((1, 2, 3), (200, 100, 50)) == contrast((200, 100, 50), (1, 2, 3))


def test_strengths_of_another_scale() -> None:
    assert strengths([1.0, -2.0, 0.0], 4.0) == [0.25, -0.5, 0.0]
