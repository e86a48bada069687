"""GradientSHAP: its mean is integrated gradients, and it draws within the text only."""

import copy

import torch
from torch import Tensor

from explainer.explained import ExplainedModel, Target
from explainer.methods import AbstractMethod, GradientShap, IntegratedGradients
from tests.explainer.tools import double, encoded, relative_error
from tests.families import TEXTS

TARGET = Target.of([0, 1])


def scores(method: AbstractMethod, model: ExplainedModel, target: Target = TARGET) -> Tensor:
    """Of two texts, one after the other."""
    return torch.cat(list(method.attribute(model, encoded(model, TEXTS[:2]), target).scores))


def test_many_samples_without_noise_come_to_integrated_gradients() -> None:
    model = double("bert")
    for target in (TARGET, Target.of([0, 1], [2, 0], "log_prob")):
        expected = scores(IntegratedGradients(n_steps=40), model, target)
        errors = [relative_error(scores(GradientShap(n_samples=n), model, target), expected) for n in (4, 2000)]
        assert errors[1] < 0.05
        assert errors[1] < errors[0]


def test_noise_and_seed_change_the_scores() -> None:
    model = double("bert")
    plain, noisy, other = (
        scores(method, model)
        for method in (GradientShap(n_samples=5), GradientShap(n_samples=5, stdevs=1.0), GradientShap(5, seed=1))
    )
    assert relative_error(noisy, plain) > 1e-2
    assert relative_error(other, plain) > 1e-3


def test_samples_beyond_the_token_budget_go_through_in_parts() -> None:
    model = copy.copy(double("bert"))
    model.batch_tokens = 60
    expected = scores(GradientShap(n_samples=600), double("bert"))
    assert relative_error(scores(GradientShap(n_samples=600), model), expected) < 0.15


def test_the_cost_is_three_passes_per_sample() -> None:
    assert GradientShap(n_samples=7).forward_equivalents(9) == 21
