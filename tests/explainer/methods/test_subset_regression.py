"""Subset regression: recovers additive effects, draws subsets like the metrics, and depends on the text alone."""

import copy

import torch
from torch import Tensor

from explainer.explained import ExplainedModel, TokenBatch, Tokens
from explainer.methods import AttnLRP, SubsetRegression
from explainer.methods.subset_regression import _log_odds
from tests.explainer.tools import batch_of, encoded, predicted, relative_error
from tests.families import TEXTS, explained


def additive(effects: Tensor) -> ExplainedModel:
    """A model of two classes whose logit difference is a sum of token effects."""

    def predict(rows: list[Tokens]) -> Tensor:
        value = torch.stack([effects[row.input_ids].sum() for row in rows])
        return torch.stack([value, torch.zeros_like(value)], dim=1)

    model = copy.copy(explained("bert"))
    model.predict = predict  # type: ignore[method-assign, assignment]
    return model


def test_an_additive_model_s_effects_are_found_exactly_but_for_a_constant() -> None:
    effects = torch.randn(30)
    ids = torch.arange(4, 16)[None]
    scorable = torch.ones_like(ids, dtype=torch.bool)
    scorable[0, 0] = False
    batch = TokenBatch(ids, torch.ones_like(ids), scorable)
    method = SubsetRegression(n_subsets=256, ridge=1e-6, prior=False)
    scores = method(additive(effects), batch, torch.tensor([0]))[0]
    found, true = scores[1:], effects[5:16]
    assert scores[0] == 0
    assert torch.allclose(found - found.mean(), true - true.mean(), atol=1e-3)


def test_log_odds_of_three_classes() -> None:
    model = explained("bert")
    rows = [text.tokens for text in encoded(model)]
    probabilities = model.predict(rows).softmax(dim=1)[:, 2]
    found = _log_odds(model, rows, torch.full((len(rows),), 2))
    assert torch.allclose(found, torch.logit(probabilities), atol=1e-4)


def test_subsets_have_the_metrics_sizes_and_scorable_tokens_only() -> None:
    row = Tokens(torch.arange(24))
    scorable = torch.ones(24, dtype=torch.bool)
    scorable[[0, -1]] = False
    subsets = SubsetRegression(n_subsets=8)._subsets(row, scorable)
    assert subsets.sum(dim=1).tolist() == [1, 2, 4, 11] * 2
    assert not subsets[:, ~scorable].any()
    assert len({tuple(subset.tolist()) for subset in subsets}) == 8


def test_an_endless_ridge_leaves_the_prior_s_ranking() -> None:
    model: ExplainedModel = explained("bert")
    batch = batch_of(model, TEXTS[1:2])
    target = predicted(model, batch)
    prior = AttnLRP()(model, batch, target)
    scores = SubsetRegression(n_subsets=8, ridge=1e12)(model, batch, target)
    cosine = torch.cosine_similarity(scores[0], prior[0], dim=0).abs()
    assert cosine > 1 - 1e-4 or scores.abs().max() < 1e-6


def test_more_subsets_come_closer_to_each_other() -> None:
    model = explained("bert")
    batch = batch_of(model, TEXTS[3:])
    target = predicted(model, batch)

    def spread(n: int) -> float:
        first, second = (
            SubsetRegression(n_subsets=n, ridge=1e-3, prior=False, seed=seed)(model, batch, target) for seed in (0, 1)
        )
        return float(relative_error(first, second))

    assert spread(512) < 0.7 * spread(32)


def test_cost() -> None:
    assert SubsetRegression(n_subsets=32).forward_equivalents(20) == 67
    assert SubsetRegression(n_subsets=32, prior=False).forward_equivalents(20) == 64
