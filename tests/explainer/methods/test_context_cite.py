"""ContextCite: the conditions of the LASSO's minimum, the joint log-odds of a target, masks of units."""

import copy
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Readout, Target, TargetValues, Tokens
from explainer.methods import ContextCite
from explainer.methods.context_cite import lasso
from tests.explainer.tools import double, encoded
from tests.families import TASKS, TEXTS, explained


@pytest.mark.parametrize(("rows", "columns"), [(32, 6), (32, 200), (4, 30), (1, 3), (8, 0)])
@pytest.mark.parametrize("alpha", [0.3, 1e-3])
def test_the_lasso_meets_the_conditions_of_its_minimum(rows: int, columns: int, alpha: float) -> None:
    """x_j . residual / rows is alpha times the sign of a weight that is used, and no larger elsewhere."""
    random = np.random.default_rng(rows + columns)
    x = (random.random((rows, columns)) < 0.5).astype(float)  # with few rows, many columns are equal or constant
    x -= x.mean(axis=0)
    y = random.normal(size=rows)
    weights = lasso(x, y, alpha)
    pull = x.T @ (y - x @ weights) / rows
    used = weights != 0
    np.testing.assert_allclose(pull[used], alpha * np.sign(weights[used]), atol=1e-5 * alpha)
    assert (np.abs(pull) <= alpha * (1 + 1e-5)).all()
    assert bool(used.any()) == bool((np.abs(x.T @ y) / rows > alpha).any())


def of_effects(effects: Tensor, questions: int) -> ExplainedModel:
    """A model whose target has one question per third token, each with the same log-odds: a sum of token effects."""

    def evaluate(sequences: Sequence[Tokens], target: Target) -> TargetValues:
        value = torch.stack([effects[tokens.input_ids].sum() for tokens in sequences]).double()
        logits = torch.stack([value, torch.zeros_like(value)], dim=1)[:, None]
        return Readout(logits.expand(-1, questions, -1)).of(target)

    model = copy.copy(explained("bert"))
    model.evaluate = evaluate  # type: ignore[method-assign]
    return model


def text_of(n: int, units: tuple[int, ...] | None = None) -> EncodedText:
    scorable = torch.arange(n) > 0
    return EncodedText("", None, Tokens(torch.arange(4, 4 + n)), scorable, (), (), (), units)


def test_additive_effects_of_units_are_found_less_the_penalty_and_shared_by_their_tokens() -> None:
    effects, units = torch.randn(30), (0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4, 5)
    text = text_of(12, units)
    (scores,) = ContextCite(n_ablations=64, alpha=1e-6).attribute(of_effects(effects, 1), [text], Target.of([0])).scores
    for unit in text.unit_masks:
        assert len(set(scores[unit].tolist())) == 1
        assert scores[unit].sum().item() == pytest.approx(effects[4:16][unit].sum().item(), abs=1e-4)


def test_a_response_is_explained_by_the_log_odds_of_all_its_tokens_and_the_penalty_is_per_token() -> None:
    """Twice as many tokens of nearly the same log-odds: as large a share of the coefficients is shrunk away."""
    effects, text, n = torch.zeros(30), text_of(12), 4
    effects[4], effects[6] = -40.0, 2.0  # p is tiny, so ln p / (1 - p) of n tokens is n times that of one
    one, several = (
        ContextCite(alpha=0.1).attribute(of_effects(effects, q), [text], Target(torch.zeros(1, q, dtype=int))).scores[0]
        for q in (1, n)
    )
    assert one[2] == pytest.approx(2.0 - 0.1 / 0.5, abs=0.05)  # the mask of a unit has the deviation 1/2
    assert torch.allclose(several, n * one, rtol=1e-5)
    assert (one.nonzero()[:, 0] == 2).all()


@pytest.mark.parametrize("foil", [None, [1]])
def test_what_is_fitted_is_the_log_odds_of_one_model_call_per_mask(foil: list[int] | None) -> None:
    model, method = double("bert"), ContextCite(n_ablations=12, alpha=1e-5)
    text = encoded(model, TEXTS[3:])[0]
    kept, ids = method.masks(text), text.tokens.input_ids
    places = torch.stack(text.unit_masks)
    values = []
    for mask in kept:
        logits = model.model(input_ids=ids[~places[~mask].any(dim=0)][None]).logits[0]
        odds = torch.logit(logits.double().softmax(dim=0))
        values.append(odds[2] if foil is None else odds[2] - odds[foil[0]])
    z = kept.double().numpy()
    scale = np.where(z.std(axis=0) == 0, 1, z.std(axis=0))
    v = torch.stack(values).numpy()
    expected = lasso((z - z.mean(axis=0)) / scale, v - v.mean(), 1e-5) / scale
    (scores,) = method.attribute(model, [text], Target.of([2], foil)).scores
    np.testing.assert_allclose(scores[text.scorable].numpy(), expected, rtol=1e-3, atol=1e-8)
    assert (expected != 0).any()


def test_masks_keep_half_by_the_text_and_the_seed_alone() -> None:
    model = explained("llama")
    text = encoded(model, TEXTS[3:])[0]
    masks = ContextCite(n_ablations=512).masks(text)
    assert masks.shape == (512, text.n_scorable)
    assert (masks.float().mean(dim=0) - 0.5).abs().max() < 0.1
    assert torch.equal(ContextCite().masks(text), ContextCite().masks(text))
    assert not torch.equal(ContextCite().masks(text), ContextCite(seed=1).masks(text))


def test_a_regression_s_value_takes_the_place_of_log_odds() -> None:
    model, target = copy.deepcopy(explained("bert", **TASKS["regression"])), Target.of([0])
    texts = encoded(model, TEXTS[3:])
    with torch.no_grad():
        model.model.classifier.weight.mul_(100)
    one = ContextCite(alpha=1e-9).attribute(model, texts, target).scores[0]
    with torch.no_grad():
        model.model.classifier.weight.mul_(2)
    assert torch.allclose(ContextCite(alpha=1e-9).attribute(model, texts, target).scores[0], 2 * one, rtol=1e-3)


@pytest.mark.parametrize("settings", [{"n_ablations": 0}, {"alpha": 0.0}, {"alpha": float("nan")}])
def test_settings_must_be_positive(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}` of context_cite must be positive"):
        ContextCite(**settings)  # type: ignore[arg-type]
