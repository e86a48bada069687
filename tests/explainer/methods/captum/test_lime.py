"""LIME: the regression over all subsets, written out, is what many samples come to."""

import itertools
from dataclasses import replace

import torch
from torch import Tensor

from explainer.explained import ExplainedModel, Target
from explainer.methods import Lime
from tests.explainer.tools import double, encoded, relative_error
from tests.families import TEXTS

SHORT = "the film was great fun"


def scores(method: Lime, model: ExplainedModel, texts: list[str], target: Target) -> Tensor:
    """Of all texts, one after the other."""
    return torch.cat(list(method.attribute(model, encoded(model, texts), target).scores))


def surrogate(model: ExplainedModel, text: str, target: int, width: float) -> Tensor:
    """The weighted least-squares fit over every subset once, by the normal equations with an intercept."""
    encoding = encoded(model, [text])[0]
    ids, places = encoding.tokens.input_ids, encoding.scorable.nonzero()[:, 0]
    subsets = torch.tensor(list(itertools.product([0, 1], repeat=len(places))))
    changed = ids.repeat(len(subsets), 1)
    changed[:, places] = torch.where(subsets.bool(), changed[:, places], model.baseline_token_id)
    value = model.model(input_ids=changed).logits[:, target]
    cosine = subsets.sum(dim=1) / (subsets.sum(dim=1).clamp(min=1).sqrt() * len(places) ** 0.5)
    weight = torch.exp(-((1 - cosine.double()) ** 2) / (2 * width**2))
    design = torch.cat([subsets.double(), torch.ones(len(subsets), 1, dtype=torch.float64)], dim=1)
    solution = torch.linalg.solve(design.T @ (weight[:, None] * design), design.T @ (weight * value))
    coefficients = torch.zeros(len(ids), dtype=torch.float64)
    coefficients[places] = solution[:-1]
    return coefficients


def test_many_samples_come_to_the_fit_over_all_subsets() -> None:
    model = double("gpt2")
    for width in (0.1, 25.0):
        expected = surrogate(model, SHORT, 1, width)
        method = Lime(n_samples=4000, kernel_width=width, ridge=0.0)
        assert relative_error(scores(method, model, [SHORT], Target.of([1])), expected) < 0.02
    assert relative_error(surrogate(model, SHORT, 1, 0.1), expected) > 0.05  # the width matters


def test_units_are_features_as_tokens_are() -> None:
    """Equal to the fit on tokens when each is a unit; a unit's coefficient is shared among its tokens."""
    model, method = double("gpt2"), Lime(n_samples=40)
    text, target = encoded(model, [SHORT])[0], Target.of([1])
    alone = replace(text, units=tuple(range(len(text))))
    assert torch.equal(
        method.attribute(model, [alone], target).scores[0], method.attribute(model, [text], target).scores[0]
    )
    grouped = replace(text, units=tuple(place // 2 for place in range(len(text))))
    fitted = method.attribute(model, [grouped], target).scores[0]
    assert all(len(set(fitted[unit].tolist())) == 1 for unit in grouped.unit_masks)
    assert len(set(fitted[text.scorable].tolist())) == len(grouped.unit_masks) > 1


def test_the_ridge_pulls_to_zero() -> None:
    model = double("bert")
    sizes = [
        scores(Lime(n_samples=20, ridge=ridge), model, TEXTS, Target.of([0, 1, 2, 0])).norm()
        for ridge in (0.1, 1.0, 10.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_another_seed_has_other_subsets() -> None:
    model = double("bert")
    first, second = (scores(Lime(n_samples=10, seed=seed), model, TEXTS[:2], Target.of([0, 1])) for seed in (0, 1))
    assert relative_error(first, second) > 1e-3


def test_the_cost_is_a_forward_pass_per_subset() -> None:
    assert Lime(n_samples=9).forward_equivalents(4) == 9
