"""Subset regression: recovers additive effects, draws subsets like the metrics, and depends on the text alone."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from explainer.explained import EncodedText, ExplainedModel, Readout, Target, TargetValues, Tokens
from explainer.faithfulness.perturbation import Operator, perturb
from explainer.methods import AttnLRP, SubsetRegression
from tests.explainer.tools import double, encoded, relative_error
from tests.families import TASKS, TEXTS, explained


def text_of(ids: Tensor, scorable: Tensor, units: tuple[int, ...] | None = None) -> EncodedText:
    return EncodedText("", None, Tokens(ids), scorable, (), (), (), units)


def additive(effects: Tensor) -> ExplainedModel:
    """A model of two classes whose logit difference is a sum of token effects."""

    def evaluate(sequences: Sequence[Tokens], target: Target) -> TargetValues:
        value = torch.stack([effects[tokens.input_ids].sum() for tokens in sequences])
        return Readout(torch.stack([value, torch.zeros_like(value)], dim=1)[:, None]).of(target)

    model = copy.copy(explained("bert"))
    model.evaluate = evaluate  # type: ignore[method-assign]
    return model


def scores(method: SubsetRegression, model: ExplainedModel, text: EncodedText, target: Target) -> Tensor:
    return method.attribute(model, [text], target).scores[0]


def test_an_additive_model_s_effects_are_found_exactly_but_for_a_constant() -> None:
    effects = torch.randn(30)
    scorable = torch.ones(12, dtype=torch.bool)
    scorable[0] = False
    text = text_of(torch.arange(4, 16), scorable)
    method = SubsetRegression(n_subsets=256, ridge=1e-6, prior=False)
    fitted = scores(method, additive(effects), text, Target.of([0]))
    fitted, true = fitted[1:], effects[5:16]
    assert torch.allclose(fitted - fitted.mean(), true - true.mean(), atol=1e-3)


def test_an_additive_model_s_effects_of_units_are_found_and_shared() -> None:
    effects = torch.randn(30)
    scorable = torch.ones(12, dtype=torch.bool)
    scorable[0] = False
    text = text_of(torch.arange(4, 16), scorable, units=(0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4, 5))
    method = SubsetRegression(n_subsets=256, ridge=1e-6, prior=False)
    fitted = scores(method, additive(effects), text, Target.of([0]))
    assert all(len(set(fitted[unit].tolist())) == 1 for unit in text.unit_masks)
    sums, true = (torch.stack([of[unit].sum() for unit in text.unit_masks]) for of in (fitted, effects[4:16]))
    assert torch.allclose(sums - sums.mean(), true - true.mean(), atol=1e-3)


@pytest.mark.parametrize("foil", [None, [1]])
def test_effects_are_the_log_odds_less_the_mean_of_their_size(foil: list[int] | None) -> None:
    """One model call per subset, and the logit function of probabilities; of a foil the same is subtracted."""
    model = double("bert")
    text = encoded(model, TEXTS[3:])[0]
    method = SubsetRegression(n_subsets=8)
    effects = method.effects(model, [text], Target.of([2], foil))[0]
    subsets, ids = method._uniform(text), text.tokens.input_ids
    expected = []
    for changed in (~subsets, subsets | ~text.scorable):
        logits = torch.cat([model.model(input_ids=ids[kept][None]).logits for kept in changed])
        odds = torch.logit(logits.double().softmax(dim=1))
        value = odds[:, 2] if foil is None else odds[:, 2] - odds[:, foil[0]]
        expected.append(value - value.view(2, 4).mean(dim=0).repeat(2))  # four sizes, in turn
    assert torch.allclose(effects.value, torch.cat(expected), atol=1e-5)
    assert effects.design.shape == (16, len(text))
    assert torch.equal(effects.design[:8], -effects.design[8:])


@pytest.mark.parametrize("operator", get_args(Operator))
def test_effects_are_those_of_the_operator(operator: Operator) -> None:
    model = double("bert")
    text = encoded(model, TEXTS[3:])[0]
    method = SubsetRegression(n_subsets=8, operator=operator)
    effects = method.effects(model, [text], Target.of([2]))[0]
    subsets = method._uniform(text)
    changed = [perturb(text, away, operator, model.baseline_token_id) for away in (*subsets, *~subsets)]
    odds = torch.logit(torch.softmax(model.predict(changed).logits[:, 0].double(), dim=1))[:, 2]
    expected = odds - torch.cat([half.view(2, 4).mean(dim=0).repeat(2) for half in odds.chunk(2)])
    assert torch.allclose(effects.value, expected, atol=1e-5)
    assert effects.value.abs().max() > 1e-4


def test_a_regression_s_effects_are_those_of_its_value() -> None:
    model = explained("bert", **TASKS["regression"])
    text = encoded(model, TEXTS[3:])[0]
    method = SubsetRegression(n_subsets=8)
    value = method.effects(model, [text], Target.of([0]))[0].value[:8]
    ids = text.tokens.input_ids
    outputs = torch.stack([model.model(input_ids=ids[~s][None]).logits[0, 0] for s in method._uniform(text)])
    assert torch.allclose(value.float(), outputs - outputs.view(2, 4).mean(dim=0).repeat(2), atol=1e-5)


def test_subsets_have_the_metrics_sizes_and_scorable_tokens_only() -> None:
    scorable = torch.ones(24, dtype=torch.bool)
    scorable[[0, -1]] = False
    subsets = SubsetRegression(n_subsets=8)._uniform(text_of(torch.arange(24), scorable))
    assert subsets.sum(dim=1).tolist() == [1, 2, 4, 11] * 2
    assert not subsets[:, ~scorable].any()
    assert len({tuple(subset.tolist()) for subset in subsets}) == 8


def test_subsets_of_units_contain_them_whole() -> None:
    scorable = torch.ones(24, dtype=torch.bool)
    scorable[[0, -1]] = False
    text = text_of(torch.arange(24), scorable, units=tuple(place % 6 for place in range(24)))
    subsets = SubsetRegression(n_subsets=8)._uniform(text)
    inside = torch.stack([subsets[:, unit].all(dim=1) for unit in text.unit_masks])
    touched = torch.stack([subsets[:, unit].any(dim=1) for unit in text.unit_masks])
    assert torch.equal(inside, touched)
    assert inside.sum(dim=0).tolist() == [1, 1, 1, 3] * 2
    assert not subsets[:, ~scorable].any()


def test_an_endless_ridge_leaves_the_prior_s_ranking() -> None:
    model = explained("bert")
    text = encoded(model, TEXTS[1:2])[0]
    target = model.predicted([text])
    prior = AttnLRP().attribute(model, [text], target).scores[0]
    fitted = scores(SubsetRegression(n_subsets=8, ridge=1e12), model, text, target)
    cosine = torch.cosine_similarity(fitted, prior, dim=0).abs()
    assert cosine > 1 - 1e-4 or fitted.abs().max() < 1e-6


def test_an_endless_ridge_leaves_the_prior_s_sums_over_units() -> None:
    model = explained("bert")
    text = encoded(model, TEXTS[1:2])[0]
    text = replace(text, units=tuple(place // 3 for place in range(len(text))))
    target = model.predicted([text])
    prior = AttnLRP().attribute(model, [text], target).scores[0]
    fitted = scores(SubsetRegression(n_subsets=8, ridge=1e12), model, text, target)
    sums = [torch.stack([of[unit].sum() for unit in text.unit_masks]) for of in (fitted, prior)]
    assert torch.cosine_similarity(*sums, dim=0).abs() > 1 - 1e-4 or fitted.abs().max() < 1e-6


def test_more_subsets_come_closer_to_each_other() -> None:
    model = explained("bert")
    text = encoded(model, TEXTS[3:])[0]
    target = model.predicted([text])

    def spread(n: int) -> float:
        first, second = (
            scores(SubsetRegression(n_subsets=n, ridge=1e-3, prior=False, seed=seed), model, text, target)
            for seed in (0, 1)
        )
        return float(relative_error(first, second))

    assert spread(512) < 0.7 * spread(32)


def test_later_rounds_draw_near_the_scores_and_contain_units_whole() -> None:
    text = text_of(torch.arange(24), torch.ones(24, dtype=torch.bool), units=tuple(place // 2 for place in range(24)))
    scores = torch.zeros(24, dtype=torch.float64)
    scores[6], scores[10] = 8.0, 4.0
    draw = torch.Generator().manual_seed(0)
    near, far = (
        SubsetRegression(n_subsets=400, temperature=temperature)._subsets(text, draw, scores, torch.arange(400))
        for temperature in (0.05, 100.0)
    )
    assert near.sum(dim=1).tolist() == far.sum(dim=1).tolist() == [2, 2, 4, 12] * 100
    assert torch.equal(near[:, ::2], near[:, 1::2])
    assert near[:, 6].all()
    assert near[near.sum(dim=1) > 2][:, 10].all()
    assert far[:, 6].float().mean() < 0.5


def test_one_round_s_scores_do_not_depend_on_the_temperature_and_several_s_do() -> None:
    model = explained("bert")
    text = encoded(model, TEXTS[3:])[0]
    target = model.predicted([text])
    of = {
        (rounds, temperature): scores(
            SubsetRegression(n_subsets=8, rounds=rounds, temperature=temperature), model, text, target
        )
        for rounds in (1, 4)
        for temperature in (0.1, 3.0)
    }
    assert torch.equal(of[1, 0.1], of[1, 3.0])
    assert not torch.equal(of[4, 0.1], of[4, 3.0])
    assert not torch.equal(of[4, 0.1], of[1, 0.1])


@pytest.mark.parametrize("rounds", [0, 33])
def test_rounds_that_cannot_be_are_refused(rounds: int) -> None:
    with pytest.raises(ValueError, match=f"`rounds`.* got {rounds}"):
        SubsetRegression(rounds=rounds)


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_temperature_that_cannot_be_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"`temperature`.* got"):
        SubsetRegression(temperature=temperature)


def test_an_operator_is_named_and_takes_no_other_setting_s_place() -> None:
    assert SubsetRegression(16) == SubsetRegression(n_subsets=16, operator="delete")
    assert SubsetRegression(operator="replace") != SubsetRegression()


def test_cost() -> None:
    assert SubsetRegression(n_subsets=32).forward_equivalents(20) == 67
    assert SubsetRegression(n_subsets=32, prior=False).forward_equivalents(20) == 64
