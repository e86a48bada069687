"""Training losses in closed form, and finite where a score, a mask or a text is extreme."""

import math
from typing import get_args

import pytest
import scipy.stats
import torch
import torch.nn.functional as F

from explainer.explained import Readout, Target
from explainer.explained.readout import NO_QUESTION, Link
from explainer.explainers.losses import (
    additivity,
    correlation_matching,
    prediction_destroyed,
    prediction_kept,
    soft_target,
    sparsity,
    standardized,
)

SCORABLE = torch.tensor([[True, True, True, False], [False, True, True, True]])
SCORES = torch.tensor([[1.0, -2.0, 0.5, 99.0], [99.0, 3.0, 3.5, -1.0]])


LINKS = get_args(Link)
ANY = Target.of([0] * 5)
"""One question of each text; which of its choices is explained does not matter."""


def readout(*logits: list[float], link: Link = "softmax") -> Readout:
    """The answer to one question of each text."""
    return Readout(torch.tensor(logits)[:, None], link)


def random_readout(link: Link = "softmax") -> Readout:
    return Readout(torch.randn(5, 1, 3), link)


def test_prediction_kept_is_the_soft_cross_entropy() -> None:
    answer, p = random_readout(), torch.randn(5, 1, 3).softmax(dim=-1)
    expected = -(p * answer.logits.log_softmax(dim=-1)).sum(dim=-1).mean()
    assert torch.allclose(prediction_kept(answer, p, ANY), expected)


def test_prediction_kept_of_several_labels_is_the_mean_of_their_binary_cross_entropies() -> None:
    answer, p = random_readout("sigmoid"), torch.rand(5, 1, 3)
    q = answer.logits.sigmoid()
    assert torch.allclose(prediction_kept(answer, p, ANY), -(p * q.log() + (1 - p) * (1 - q).log()).mean(), atol=1e-6)


def test_prediction_kept_of_a_regression_is_the_squared_error() -> None:
    answer, wanted = readout([1.0], [3.0], link="identity"), torch.tensor([[[2.0]], [[5.0]]])
    assert prediction_kept(answer, wanted, Target.of([0, 0])).item() == 2.5


@pytest.mark.parametrize("link", LINKS)
def test_prediction_kept_is_least_at_the_prediction_itself(link: Link) -> None:
    answer = random_readout(link)
    wanted = soft_target(answer, answer_target(answer))
    other = Readout(answer.logits + torch.randn(5, 1, 3), link)
    assert prediction_kept(answer, wanted, ANY) < prediction_kept(other, wanted, ANY)
    leaf = answer.logits.clone().requires_grad_()
    prediction_kept(Readout(leaf, link), wanted, ANY).backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().max() < 1e-6


def answer_target(answer: Readout) -> Target:
    """The choice of the highest logit, of a regression too."""
    return Target(answer.logits.argmax(dim=-1))


def test_the_soft_target_of_one_label_is_the_prediction_or_the_target_alone() -> None:
    answer = readout([2.0, 0.0, 1.0], [2.0, 0.0, 1.0])
    found = soft_target(answer, Target.of([0, 2]))
    assert torch.equal(found[0], answer.logits[0].softmax(dim=-1))
    assert found[1].tolist() == [[0.0, 0.0, 1.0]]


def test_the_soft_target_of_several_labels_changes_the_target_s_alone() -> None:
    answer = readout([2.0, -1.0, 1.0], [2.0, -1.0, 1.0], [-2.0, -1.0, -3.0], link="sigmoid")
    p = answer.logits.sigmoid()
    found = soft_target(answer, Target.of([2, 1, 1]))
    assert torch.equal(found[0], p[0])  # above one half: predicted
    assert torch.equal(found[1], torch.tensor([[p[1, 0, 0], 1.0, p[1, 0, 2]]]))
    assert torch.equal(found[2], p[2])  # below one half, and yet the label that is predicted first


def test_a_label_at_one_half_is_not_predicted() -> None:
    answer = readout([2.0, 0.0], link="sigmoid")
    assert soft_target(answer, Target.of([1]))[0, 0, 1] == 1


def test_the_soft_target_of_a_regression_is_its_values() -> None:
    answer = random_readout("identity")
    assert torch.equal(soft_target(answer, Target.of([0, 1, 2, 0, 1])), answer.logits)


def test_prediction_destroyed_in_closed_form() -> None:
    answer = readout([0.0, 0.0], [math.log(3.0), 0.0])
    expected = (-math.log(0.5) - math.log(0.25)) / 2
    assert prediction_destroyed(answer, Target.of([1, 0]), eps=0.0).item() == pytest.approx(expected)


def test_prediction_destroyed_of_several_labels_is_by_the_target_s_own_sigmoid() -> None:
    answer = readout([5.0, 0.0], [math.log(3.0), -4.0], link="sigmoid")
    expected = (-math.log(0.5) - math.log(0.25)) / 2
    assert prediction_destroyed(answer, Target.of([1, 0]), eps=0.0).item() == pytest.approx(expected)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_prediction_destroyed_is_finite_at_certainty(link: Link) -> None:
    logits = torch.tensor([[[200.0, 0.0]]], requires_grad=True)
    loss = prediction_destroyed(Readout(logits, link), Target.of([0]))
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(1e-6), rel=1e-3)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_prediction_destroyed_needs_probabilities() -> None:
    with pytest.raises(ValueError, match=r"`destroyed` needs the target's probability.*: set its weight to 0"):
        prediction_destroyed(random_readout("identity"), Target.of([0] * 5))


def test_questions_count_the_same_and_those_that_a_text_lacks_count_nothing() -> None:
    """A text with two questions, and one with a single question whose second row is that of padding."""
    logits = torch.randn(2, 2, 4, dtype=torch.float64)
    logits[0, 0, 3] = -torch.inf  # a choice that this text does not have
    answer, target = Readout(logits), Target(torch.tensor([[1, 2], [3, NO_QUESTION]]))
    wanted = soft_target(Readout(logits.masked_fill(torch.eye(4)[None, :2].bool(), -9.0)), target)
    kept, destroyed = prediction_kept(answer, wanted, target), prediction_destroyed(answer, target, eps=0.0)
    p = logits.softmax(dim=-1)
    asked = [(0, 0), (0, 1), (1, 0)]
    ce = [-sum(w * q.log() for w, q in zip(wanted[at], p[at], strict=True) if w) for at in asked]
    gone = [-(1 - p[at][int(target.choices[at])]).log() for at in asked]
    assert kept.item() == pytest.approx(float((ce[0] + ce[1]) / 4 + ce[2] / 2))
    assert destroyed.item() == pytest.approx(float((gone[0] + gone[1]) / 4 + gone[2] / 2))


def test_sparsity_is_the_mean_of_each_text_s_mean() -> None:
    terms = [[-math.log(1 - 1 / (1 + math.exp(-s))) for s in row] for row in ((1.0, -2.0, 0.5), (3.0, 3.5, -1.0))]
    expected = sum(sum(row) / 3 for row in terms) / 2
    assert sparsity(SCORES, SCORABLE).item() == pytest.approx(expected, rel=1e-5)


def test_sparsity_of_a_text_of_one_token_is_that_token_s() -> None:
    scores, scorable = torch.tensor([[1.5, 9.0]]), torch.tensor([[True, False]])
    assert sparsity(scores, scorable).item() == pytest.approx(math.log1p(math.exp(1.5)))


def test_sparsity_does_not_overflow_and_ignores_texts_without_tokens() -> None:
    assert sparsity(torch.full((1, 2), 1e4), torch.ones(1, 2, dtype=torch.bool)).item() == pytest.approx(1e4)
    assert sparsity(SCORES, torch.zeros_like(SCORABLE)).item() == 0


def test_correlation_matching_is_one_less_pearson_s_correlation_per_text() -> None:
    teacher = torch.randn(2, 4)
    expected = [1 - scipy.stats.pearsonr(SCORES[i][SCORABLE[i]], teacher[i][SCORABLE[i]]).statistic for i in range(2)]
    assert correlation_matching(SCORES, teacher, SCORABLE).item() == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_correlation_matching_counts_a_text_of_two_tokens() -> None:
    scores, scorable = torch.tensor([[1.0, 2.0, 9.0]]), torch.tensor([[True, True, False]])
    assert correlation_matching(scores, -scores, scorable).item() == pytest.approx(2)


def test_correlation_matching_does_not_see_scale_shift_or_other_positions() -> None:
    teacher = torch.randn(2, 4)
    expected = correlation_matching(SCORES, teacher, SCORABLE)
    moved = (7 * SCORES + 3).where(SCORABLE, torch.tensor(-50.0))
    assert torch.allclose(correlation_matching(moved, teacher, SCORABLE), expected, atol=1e-6)
    assert correlation_matching(SCORES, 2 * SCORES - 1, SCORABLE).item() == pytest.approx(0, abs=1e-6)
    assert correlation_matching(SCORES, -SCORES, SCORABLE).item() == pytest.approx(2, abs=1e-6)


def test_a_text_of_one_token_counts_0_and_gives_no_gradient() -> None:
    scores = torch.randn(1, 3, requires_grad=True)
    loss = correlation_matching(scores, torch.randn(1, 3), torch.tensor([[False, True, False]]))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert (scores.grad == 0).all()


@pytest.mark.parametrize("scores", [torch.zeros(2, 4), torch.full((2, 4), 3.0)])
def test_constant_scores_have_finite_gradients(scores: torch.Tensor) -> None:
    leaf = scores.clone().requires_grad_()
    correlation_matching(leaf, torch.randn(2, 4), SCORABLE).backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_standardized_has_mean_0_and_deviation_1_over_its_tokens() -> None:
    scores = standardized(SCORES, SCORABLE)
    assert (scores[~SCORABLE] == 0).all()
    for of_text, mask in zip(scores, SCORABLE, strict=True):
        assert of_text[mask].mean().item() == pytest.approx(0, abs=1e-6)
        assert of_text[mask].std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_standardized_constant_scores_are_0() -> None:
    assert (standardized(torch.full((2, 4), 5.0), SCORABLE) == 0).all()


def test_standardized_a_text_of_one_token_or_none_is_0() -> None:
    scorable = torch.tensor([[False, True, False], [False, False, False]])
    assert (standardized(torch.tensor([[9.0, 5.0, 7.0], [1.0, 2.0, 3.0]]), scorable) == 0).all()


@pytest.mark.parametrize(("steps", "kept"), [(7, False), (-8, False), (9, True)])
def test_standardized_keeps_differences_above_four_roundings(steps: int, kept: bool) -> None:
    """The deviation of two scores that are so many rounding errors apart is half as many."""
    apart = 1 + steps * torch.finfo(torch.float32).eps
    scores = standardized(torch.tensor([[1.0, apart]]), torch.ones(1, 2, dtype=torch.bool))
    assert bool(scores.any()) == kept


@pytest.mark.parametrize("value", [0.1, 1 / 3, 1e4 / 3])
def test_standardized_constant_scores_are_not_rounding_noise(value: float) -> None:
    scorable = torch.ones(1, 7, dtype=torch.bool)
    assert standardized(torch.full((1, 7), value), scorable).abs().max().item() < 1e-3


def test_additivity_is_one_less_the_correlation_written_out() -> None:
    torch.manual_seed(0)
    design, scores = torch.randn(2, 6, 4), torch.randn(2, 4)
    effects = torch.stack([design[0] @ scores[0] * 3, torch.randn(6)])
    sums = design[1] @ scores[1]
    expected = 1 - sums @ effects[1] / (sums.norm() * effects[1].norm())
    assert torch.allclose(additivity(scores, design, effects), expected / 2, atol=1e-6)
    assert torch.allclose(additivity(-5 * scores, design, effects), (2 + 2 - expected) / 2, atol=1e-6)


def test_additivity_teaches_the_scores_that_made_the_effects() -> None:
    torch.manual_seed(0)
    design, true = torch.randn(1, 64, 5), torch.randn(1, 5)
    scores = torch.zeros(1, 5) + 0.1
    scores.requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        additivity(scores, design, torch.einsum("bms,bs->bm", design, true)).backward()
        optimizer.step()
    assert F.cosine_similarity(scores, true).item() > 0.999
