"""GradientSHAP: its mean is integrated gradients, and it draws within the text only."""

import copy

import torch

from explainer.methods import GradientShap, IntegratedGradientsMethod
from tests.explainer.tools import batch_of, double, relative_error
from tests.families import TEXTS

TARGET = torch.tensor([0, 1])


def test_many_samples_without_noise_come_to_integrated_gradients() -> None:
    model = double("bert")
    batch = batch_of(model, TEXTS[:2])
    expected = IntegratedGradientsMethod(n_steps=40)(model, batch, TARGET)
    errors = [relative_error(GradientShap(n_samples=n)(model, batch, TARGET), expected) for n in (4, 2000)]
    assert errors[1] < 0.05
    assert errors[1] < errors[0]


def test_noise_and_seed_change_the_scores() -> None:
    model = double("bert")
    batch = batch_of(model, TEXTS[:2])
    plain, noisy, other = (
        method(model, batch, TARGET)
        for method in (GradientShap(n_samples=5), GradientShap(n_samples=5, stdevs=1.0), GradientShap(5, seed=1))
    )
    assert relative_error(noisy, plain) > 1e-2
    assert relative_error(other, plain) > 1e-3


def test_samples_beyond_the_token_budget_go_through_in_parts() -> None:
    model = copy.copy(double("bert"))
    model.batch_tokens = 60
    batch = batch_of(model, TEXTS[:2])
    expected = GradientShap(n_samples=600)(double("bert"), batch, TARGET)
    assert relative_error(GradientShap(n_samples=600)(model, batch, TARGET), expected) < 0.15


def test_the_cost_is_three_passes_a_sample() -> None:
    assert GradientShap(n_samples=7).forward_equivalents(9) == 21
