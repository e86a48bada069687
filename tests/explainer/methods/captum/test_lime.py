"""LIME: the regression over all subsets, written out, is what many samples come to."""

import itertools

import torch
from torch import Tensor

from explainer.explained import ExplainedModel
from explainer.methods import Lime
from tests.explainer.tools import batch_of, double, encoded, relative_error
from tests.families import TEXTS

SHORT = "the film was great fun"


def surrogate(model: ExplainedModel, text: str, target: int, width: float) -> Tensor:
    """The weighted least-squares fit over every subset once, by the normal equations with an intercept."""
    encoding = encoded(model, [text])[0]
    ids, places = encoding.tokens.input_ids, encoding.scorable.nonzero()[:, 0]
    subsets = torch.tensor(list(itertools.product([0, 1], repeat=len(places))))
    rows = ids.repeat(len(subsets), 1)
    rows[:, places] = torch.where(subsets.bool(), rows[:, places], model.baseline_token_id)
    value = model.model(input_ids=rows).logits[:, target]
    cosine = subsets.sum(dim=1) / (subsets.sum(dim=1).clamp(min=1).sqrt() * len(places) ** 0.5)
    weight = torch.exp(-((1 - cosine.double()) ** 2) / (2 * width**2))
    design = torch.cat([subsets.double(), torch.ones(len(subsets), 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.solve(design.T @ (weight[:, None] * design), design.T @ (weight * value))
    scores = torch.zeros(len(ids), dtype=torch.float64)
    scores[places] = solution[:-1]
    return scores


def test_many_samples_come_to_the_fit_over_all_subsets() -> None:
    model = double("gpt2")
    batch = batch_of(model, [SHORT])
    for width in (0.1, 25.0):
        expected = surrogate(model, SHORT, 1, width)
        found = Lime(n_samples=4000, kernel_width=width, ridge=0.0)(model, batch, torch.tensor([1]))[0]
        assert relative_error(found, expected) < 0.02
    assert relative_error(surrogate(model, SHORT, 1, 0.1), expected) > 0.05  # the width matters


def test_the_ridge_pulls_to_zero() -> None:
    model = double("bert")
    batch = batch_of(model)
    sizes = [
        Lime(n_samples=20, ridge=ridge)(model, batch, torch.tensor([0, 1, 2, 0])).norm() for ridge in (0.1, 1.0, 10.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_another_seed_has_other_subsets() -> None:
    model = double("bert")
    batch = batch_of(model, TEXTS[:2])
    first, second = (Lime(n_samples=10, seed=seed)(model, batch, torch.tensor([0, 1])) for seed in (0, 1))
    assert relative_error(first, second) > 1e-3


def test_the_cost_is_a_forward_pass_a_subset() -> None:
    assert Lime(n_samples=9).forward_equivalents(4) == 9
