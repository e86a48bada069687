"""Input times gradient is the plain gradient, on every family."""

import pytest
import torch

from explainer.methods import InputTimesGradient
from explainer.methods.base import gradient_times_input, logit_of
from tests.explainer.tools import batch_of, deberta, double, predicted, relative_error
from tests.families import FAMILIES

TARGET = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_input_times_gradient_is_the_plain_gradient(family: str) -> None:
    model = double(family)
    batch = batch_of(model)
    expected = gradient_times_input(model, batch, lambda logits: logit_of(logits, TARGET))
    assert relative_error(InputTimesGradient()(model, batch, TARGET), expected) < 1e-4


def test_it_works_on_a_model_off_the_attention_interface() -> None:
    batch = batch_of(deberta())
    scores = InputTimesGradient()(deberta(), batch, predicted(deberta(), batch))
    assert scores.isfinite().all()
    assert (scores[batch.scorable] != 0).any()


def test_the_cost_is_a_forward_and_a_backward_pass() -> None:
    assert InputTimesGradient().forward_equivalents(9) == 3
