"""Captum's methods: completeness, the plain gradient, and independence of the token budget."""

import copy

import pytest
import torch

from explainer.methods import InputTimesGradient, IntegratedGradientsMethod
from explainer.methods.base import gradient_times_input, logit_of
from explainer.methods.captum import CaptumForward
from tests.explainer.tools import batch_of, deberta, double, predicted, relative_error
from tests.families import FAMILIES

TARGET = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_input_times_gradient_is_the_plain_gradient(family: str) -> None:
    model = double(family)
    batch = batch_of(model)
    expected = gradient_times_input(model, batch, lambda logits: logit_of(logits, TARGET))
    assert relative_error(InputTimesGradient()(model, batch, TARGET), expected) < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_integrated_gradients_are_complete(family: str) -> None:
    """Their sum is the logit less that of the text of baseline tokens."""
    model = double(family)
    batch = batch_of(model)
    rows = [
        row.replaced(scorable, model.baseline_token_id)
        for row, scorable in zip(batch.rows(), batch.split(batch.scorable), strict=True)
    ]
    expected = logit_of(model(batch) - model.predict(rows), TARGET)
    scores = IntegratedGradientsMethod(n_steps=64)(model, batch, TARGET)
    assert relative_error(scores.sum(dim=1), expected) < 1e-3


def test_integrated_gradients_do_not_depend_on_the_token_budget() -> None:
    model = copy.copy(double("bert"))
    batch = batch_of(model)
    expected = IntegratedGradientsMethod(n_steps=5)(model, batch, TARGET)
    for budget in (1, 200):
        model.batch_tokens = budget
        assert relative_error(IntegratedGradientsMethod(n_steps=5)(model, batch, TARGET), expected) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_captum_s_view_of_the_model_gives_its_logits(family: str) -> None:
    model = double(family)
    batch = batch_of(model, side="left")
    forward = CaptumForward(model)
    logits = forward(forward.embeddings(batch), *forward.arguments(batch))
    assert torch.equal(logits, model(batch))
    rows = torch.tensor([2, 0])
    some = forward(forward.embeddings(batch)[rows], *forward.arguments(batch, rows))
    assert relative_error(some, model(batch)[rows]) < 1e-6


@pytest.mark.parametrize("method", [InputTimesGradient(), IntegratedGradientsMethod(n_steps=2)])
def test_they_work_on_a_model_off_the_attention_interface(method: InputTimesGradient) -> None:
    batch = batch_of(deberta())
    scores = method(deberta(), batch, predicted(deberta(), batch))
    assert scores.isfinite().all()
    assert (scores[batch.scorable] != 0).any()


def test_the_cost_is_three_passes_a_point() -> None:
    assert InputTimesGradient().forward_equivalents(9) == 3
    assert IntegratedGradientsMethod(n_steps=7).forward_equivalents(9) == 21
