"""Drawn rankings: their distribution, how likely their highest tokens are, and the gradient of their loss."""

import itertools

import pytest
import torch

from explainer.explainers import rankings
from explainer.explainers.losses import standardized
from explainer.explainers.rankings import draw_rankings, ranking_loss, set_log_likelihood
from explainer.faithfulness.set_values import top_sets

SCORABLE = torch.tensor([[False, True, True, True, True, False]])
SCORES = torch.tensor([[9.0, 0.3, -1.0, 1.2, 0.1, -9.0]])
TEMPERATURE = 0.7


def chance(order: tuple[int, ...], weights: torch.Tensor) -> torch.Tensor:
    """P(these tokens first, in this order), by drawing one after the other without replacement."""
    left, result = weights.exp(), torch.ones(())
    for i, token in enumerate(order):
        gone = torch.zeros_like(left).scatter(0, torch.tensor(order[:i], dtype=torch.int64), 1.0).bool()
        result = result * left[token] / left.masked_fill(gone, 0.0).sum()
    return result


def weights_of(scores: torch.Tensor) -> torch.Tensor:
    return standardized(scores, SCORABLE)[SCORABLE] / TEMPERATURE


def orders(drawn: torch.Tensor) -> list[tuple[int, ...]]:
    """The order of the scorable tokens of each draw, numbered from 0."""
    return [tuple(row.argsort(descending=True).tolist()) for row in drawn[0][:, SCORABLE[0]]]


def test_draws_follow_the_plackett_luce_distribution() -> None:
    torch.manual_seed(0)
    found = orders(draw_rankings(SCORES, SCORABLE, 4000, TEMPERATURE))
    for order in itertools.permutations(range(4)):
        assert found.count(order) / 4000 == pytest.approx(chance(order, weights_of(SCORES)).item(), abs=0.03)


def test_draws_score_no_special_token_and_keep_the_order_at_temperature_0() -> None:
    drawn = draw_rankings(SCORES, SCORABLE, 5, 1e-4)
    assert (drawn[:, :, ~SCORABLE[0]] == 0).all()
    assert set(orders(drawn)) == {(2, 0, 3, 1)}


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("size", range(1, 6))
def test_a_set_is_as_likely_as_all_of_its_orders(size: int, temperature: float) -> None:
    torch.manual_seed(size)
    weights = (torch.randn(6, dtype=torch.float64) / temperature).requires_grad_()
    for members in itertools.combinations(range(6), size):
        logs = [chance(order, weights).log() for order in itertools.permutations(members)]
        expected = torch.stack(logs).logsumexp(dim=0)
        if expected < -18:  # it is not drawn
            continue
        first = torch.zeros(6, dtype=torch.bool).index_fill(0, torch.tensor(members), True)
        found = set_log_likelihood(weights, first, ~first)
        torch.testing.assert_close(found, expected, atol=5e-6, rtol=0.0)
        gradients = [torch.autograd.grad(value, weights)[0] for value in (found, expected)]
        torch.testing.assert_close(*gradients, atol=5e-6, rtol=0.0)
        single = set_log_likelihood(weights.detach().float(), first, ~first)
        torch.testing.assert_close(single, expected.detach().float(), atol=1e-5, rtol=0.0)


def test_large_sets_need_no_more_points(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    weights = torch.randn(3, 400, dtype=torch.float64) / 0.3
    first = draw_rankings(weights, torch.ones(3, 400).bool(), 1, 0.3)[:, 0].argsort(dim=1).argsort(dim=1) >= 200
    found = set_log_likelihood(weights, first, ~first)
    monkeypatch.setattr(rankings, "POINTS", 1000)
    torch.testing.assert_close(found, set_log_likelihood(weights, first, ~first), atol=1e-6, rtol=0.0)
    assert (found < -1).all()


def test_a_set_of_nothing_or_of_everything_is_certain() -> None:
    weights = torch.randn(2, 4, requires_grad=True)
    first = torch.tensor([[False] * 4, [True] * 4])
    found = set_log_likelihood(weights, first, ~first)
    (gradient,) = torch.autograd.grad(found.sum(), weights)
    assert torch.equal(found, torch.zeros(2))
    assert torch.equal(gradient, torch.zeros(2, 4))


def test_the_order_inside_a_set_does_not_matter() -> None:
    """Two draws of the same two highest tokens, in one order or the other, give the same gradient."""
    gradients = []
    for top in ([3.0, 2.0], [2.0, 3.0]):
        scores = SCORES.clone().requires_grad_()
        drawn = torch.tensor([[[0.0, *top, 1.0, 0.5, 0.0], [0.0, 0.5, 1.0, 2.0, 3.0, 0.0]]])
        values = torch.tensor([[[1.0], [0.2]]])
        sets = top_sets(drawn, SCORABLE, torch.tensor([[2]]))
        loss = ranking_loss(scores, SCORABLE, sets, values, TEMPERATURE)
        gradients.append(torch.autograd.grad(loss, scores)[0])
    assert torch.equal(*gradients)
    assert (gradients[0][SCORABLE].abs() > 0.01).all()


def test_the_gradient_is_that_of_the_expected_value() -> None:
    """Over many draws, against the sum over all orders."""
    torch.manual_seed(0)
    of_set = torch.rand(16)
    counts = torch.tensor([[0, 1, 2]])

    def values(order: tuple[int, ...]) -> torch.Tensor:
        return torch.stack([of_set[sum(1 << token for token in order[:k])] * (k > 0) for k in (0, 1, 2)])

    scores = SCORES.clone().requires_grad_()
    every = [chance(order, weights_of(scores)) * values(order).sum() for order in itertools.permutations(range(4))]
    expected = torch.stack(every).sum()
    (true,) = torch.autograd.grad(expected, scores)
    drawn = draw_rankings(scores, SCORABLE, 10_000, TEMPERATURE)
    measured = torch.stack([values(order) for order in orders(drawn)])[None]
    sets = top_sets(drawn, SCORABLE, counts)
    (found,) = torch.autograd.grad(ranking_loss(scores, SCORABLE, sets, measured, TEMPERATURE), scores)
    assert torch.allclose(-found, true, atol=0.05 * float(true.abs().max()) + 1e-3)
    assert (true[SCORABLE].abs() > 0.01).any()


def test_equal_values_and_texts_of_one_token_give_no_gradient() -> None:
    scores = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 2.0]], requires_grad=True)
    scorable = torch.tensor([[False, True, False], [False, True, True]])
    drawn = draw_rankings(scores, scorable, 3, 1.0)
    sets = top_sets(drawn, scorable, torch.tensor([[1], [1]]))
    loss = ranking_loss(scores, scorable, sets, torch.ones(2, 3, 1), 1.0)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_steps_find_the_order_of_effects_that_add_up() -> None:
    torch.manual_seed(0)
    effects, counts = torch.tensor([9.0, 0.1, 0.4, -0.2, 0.3, 9.0]), torch.tensor([[1, 2, 3]])
    scores = SCORES.clone().requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.1)
    for _ in range(100):
        drawn = draw_rankings(scores, SCORABLE, 8, TEMPERATURE)
        order = drawn.masked_fill(~SCORABLE, -torch.inf).argsort(dim=2, descending=True)
        values = effects[order].cumsum(dim=2)[:, :, counts[0] - 1]
        optimizer.zero_grad()
        ranking_loss(scores, SCORABLE, top_sets(drawn, SCORABLE, counts), values, TEMPERATURE).backward()
        optimizer.step()
    assert scores[SCORABLE].argsort(descending=True).tolist() == effects[SCORABLE[0]].argsort(descending=True).tolist()
