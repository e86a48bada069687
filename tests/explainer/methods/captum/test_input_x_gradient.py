"""Input times gradient is the plain gradient, on every family."""

import pytest

from explainer.explained import Target
from explainer.methods import InputXGradient
from explainer.methods.base import gradient_times_input
from tests.explainer.tools import batch_of, deberta, double, encoded, relative_error
from tests.families import FAMILIES

TARGETS = [Target.of([0, 1, 2, 0]), Target.of([0, 1, 2, 0], [1, 2, 0, 2], "log_odds")]


@pytest.mark.parametrize("target", TARGETS, ids=["plain", "contrast"])
@pytest.mark.parametrize("family", FAMILIES)
def test_input_times_gradient_is_the_plain_gradient(family: str, target: Target) -> None:
    model = double(family)
    batch = batch_of(model)
    expected = gradient_times_input(model, batch, target)
    assert relative_error(InputXGradient().scores(model, batch, target), expected) < 1e-4


def test_it_works_on_a_model_off_the_attention_interface() -> None:
    texts = encoded(deberta())
    attributions = InputXGradient().attribute(deberta(), texts, deberta().predicted(texts))
    for text, scores in zip(texts, attributions.scores, strict=True):
        assert scores.isfinite().all()
        assert (scores[text.scorable] != 0).any()


def test_the_cost_is_a_forward_and_a_backward_pass() -> None:
    assert InputXGradient().forward_equivalents(9) == 3
