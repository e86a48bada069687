"""Beam search for the extremes of AOPC, against all orders."""

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from explainer.explained import Attributions, EncodedText, ExplainedModel, Target, Tokens
from explainer.explained.readout import TargetValues
from explainer.faithfulness.aopc_bounds import AOPCBounds, aopc_bounds, best_ranking, ranking_aopc
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.set_values import top_set_values
from tests.explainer.faithfulness.straight import attributions_of, logits_without, probability
from tests.explainer.tools import bit_equal_logits, double, encoded, fresh
from tests.families import ANCHORED_TASKS, FAMILIES, TASKS, explained

BASELINE = 999


class Table(ExplainedModel):
    """Replaces an explained model: the probability of class 0 is random by the set of replaced positions."""

    def __init__(self, seed: int) -> None:
        nn.Module.__init__(self)
        self.seed, self.baseline_token_id = seed, BASELINE
        self.passes = 0

    def evaluate(self, sequences: Sequence[Tokens], target: Target) -> TargetValues:
        self.passes += len({tokens.key for tokens in sequences})
        pairs = zip(sequences, target.choices[:, 0].tolist(), strict=True)
        p = torch.tensor([self.of_first(tokens) if c == 0 else 1 - self.of_first(tokens) for tokens, c in pairs])
        return TargetValues(p.log(), p.log(), p.logit(), p.log(), p)

    def of_first(self, tokens: Tokens) -> float:
        replaced = (tokens.input_ids == BASELINE).nonzero()[:, 0].tolist()
        number = hash((self.seed, len(tokens), *replaced))
        return torch.rand(1, generator=torch.Generator().manual_seed(number % 2**62)).item() * 0.9 + 0.05


class Additive(Table):
    """Each token lowers the probability by its own amount, whatever else is replaced."""

    def of_first(self, tokens: Tokens) -> float:
        return 0.9 - float(((tokens.input_ids == BASELINE) * self.amounts(len(tokens))).sum())

    def amounts(self, length: int) -> Tensor:
        return torch.rand(length, generator=torch.Generator().manual_seed(self.seed)) * 0.8 / length


def text_of(n: int) -> EncodedText:
    """A special at either end, n scorable tokens between."""
    length = n + 2
    scorable = torch.tensor([False, *[True] * n, False])
    offsets = ((0, 0),) * length
    return EncodedText("", None, Tokens(torch.arange(length)), scorable, offsets, (0,) * length, (0,) * length)


def aopc_of_scores(
    model: ExplainedModel, texts: list[EncodedText], scores: list[Tensor], classes: list[int], **options: Any
) -> Tensor:
    return ranking_aopc(model, Attributions(texts, Target.of(classes), scores), **options)


def every_aopc(probability_without: Any, positions: list[int]) -> list[float]:
    """The AOPC of all n! orders, each set of positions computed once."""
    sets = itertools.chain.from_iterable(itertools.combinations(positions, k) for k in range(len(positions) + 1))
    p = {taken: probability_without(set(taken)) for taken in sets}
    return [
        sum(p[()] - p[tuple(sorted(order[:k]))] for k in range(1, len(order) + 1)) / len(order)
        for order in itertools.permutations(positions)
    ]


def every_aopc_of_a_table(model: Table, text: EncodedText, c: int) -> list[float]:
    def without(taken: set[int]) -> float:
        ids = text.tokens.input_ids.clone()
        ids[sorted(taken)] = BASELINE
        first = model.of_first(Tokens(ids))
        return first if c == 0 else 1 - first

    return every_aopc(without, text.scorable.nonzero()[:, 0].tolist())


def pairs(bounds: AOPCBounds) -> list[tuple[float, float]]:
    return list(zip(bounds.lower.tolist(), bounds.upper.tolist(), strict=True))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(0, 1), st.integers(0, 99))
def test_a_beam_of_every_set_is_exact(lengths: list[int], c: int, seed: int) -> None:
    model, texts = Table(seed), [text_of(n) for n in lengths]
    width = max(math.comb(n, n // 2) for n in lengths)
    bounds = aopc_bounds(model, texts, Target.of([c] * len(texts)), width)
    for (lower, upper), text in zip(pairs(bounds), texts, strict=True):
        every = every_aopc_of_a_table(model, text, c)
        assert lower == pytest.approx(min(every), abs=1e-6)
        assert upper == pytest.approx(max(every), abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 99))
def test_the_bounds_of_any_beam_are_reached_and_lie_inside(n: int, width: int, seed: int) -> None:
    model, text, target = Table(seed), text_of(n), Target.of([0])
    exact = aopc_bounds(model, [text], target, math.comb(n, n // 2))
    bounds = aopc_bounds(model, [text], target, width)
    assert exact.lower <= bounds.lower + 1e-6
    assert bounds.lower <= bounds.upper + 1e-6
    assert bounds.upper <= exact.upper + 1e-6


@pytest.mark.parametrize("width", [1, 3])
def test_where_effects_add_up_one_set_is_enough_and_their_order_is_best(width: int) -> None:
    model, text = Additive(3), text_of(9)
    amounts = model.amounts(len(text))
    best, worst = (aopc_of_scores(model, [text], [sign * amounts], [0]) for sign in (1, -1))
    bounds = aopc_bounds(model, [text], Target.of([0]), width)
    assert torch.allclose(bounds.upper, best, atol=1e-6)
    assert torch.allclose(bounds.lower, worst, atol=1e-6)


def test_a_ranking_s_aopc_is_that_of_its_order() -> None:
    model, text = Table(5), text_of(4)
    every = every_aopc_of_a_table(model, text, 1)
    for order, expected in zip(itertools.permutations([1, 2, 3, 4]), every, strict=True):
        scores = torch.tensor([9.0, *[-float(order.index(position)) for position in (1, 2, 3, 4)], 9.0])
        assert aopc_of_scores(model, [text], [scores], [1]).item() == pytest.approx(expected, abs=1e-6)


def test_a_closed_form() -> None:
    """p falls from 0.9 by 0.1 with token 1 and by 0.3 with token 2."""

    class Two(Additive):
        def amounts(self, length: int) -> Tensor:
            return torch.tensor([0.0, 0.1, 0.3, 0.0])

    bounds = aopc_bounds(Two(0), [text_of(2)], Target.of([0]), 1)
    assert pairs(bounds) == [(pytest.approx((0.1 + 0.4) / 2), pytest.approx((0.3 + 0.4) / 2))]


def test_texts_search_apart_and_end_when_they_are_done() -> None:
    texts, target = [text_of(n) for n in (5, 0, 1, 3)], Target.of([0, 0, 1, 1])
    together = aopc_bounds(Table(7), texts, target, 2)
    for i, text in enumerate(texts):
        alone = aopc_bounds(Table(7), [text], target[i : i + 1], 2)
        assert torch.allclose(together.lower[i], alone.lower[0], equal_nan=True)
        assert torch.allclose(together.upper[i], alone.upper[0], equal_nan=True)
    assert together.upper[1].isnan()
    assert together.lower[2] == together.upper[2]
    assert aopc_of_scores(Table(7), [texts[1]], [torch.zeros(2)], [0]).isnan().all()


def test_the_cost_is_the_beam_s() -> None:
    model, n = Table(1), 8
    aopc_bounds(model, [text_of(n)], Target.of([0]), 2)
    assert model.passes <= 1 + 2 * 2 * n * (n + 1) // 2
    narrow = model.passes
    aopc_bounds(model, [text_of(n)], Target.of([0]), 4)
    assert model.passes - narrow > narrow


def test_a_beam_has_a_width() -> None:
    with pytest.raises(ValueError, match="`beam_width` must be a positive number of sets, got 0"):
        aopc_bounds(Table(0), [text_of(2)], Target.of([0]), 0)


# Bounds are kept


def test_bounds_are_searched_once_per_text_and_target() -> None:
    model, texts = Table(2), [text_of(n) for n in (4, 3, 5)]
    first = aopc_bounds(model, texts, Target.of([0, 1, 0]), 2)
    searched = model.passes
    again = aopc_bounds(model, [texts[2], texts[0], texts[2]], Target.of([0, 0, 0]), 2)
    assert model.passes == searched
    assert pairs(again) == [pairs(first)[i] for i in (2, 0, 2)]
    aopc_bounds(model, texts[:1], Target.of([1]), 2)  # of another class
    assert model.passes > searched
    searched = model.passes
    aopc_bounds(model, texts[:1], Target.of([1]), 3)  # with a wider beam
    assert model.passes > searched
    searched = model.passes
    aopc_bounds(model, texts[:1], Target.of([1]), 3, operator="delete")
    assert model.passes > searched


def test_a_text_that_is_there_twice_is_searched_once() -> None:
    once, twice = Table(2), Table(2)
    bounds = aopc_bounds(twice, [text_of(4), text_of(4)], Target.of([0, 0]), 2)
    assert pairs(bounds) == 2 * pairs(aopc_bounds(once, [text_of(4)], Target.of([0]), 2))
    assert once.passes == twice.passes


def test_bounds_of_other_weights_are_not_kept() -> None:
    model = fresh("bert")
    texts, target = encoded(model)[:1], Target.of([0])
    before = aopc_bounds(model, texts, target, 1)
    with torch.no_grad():
        model.model.classifier.weight.mul_(-1)
    changed = aopc_bounds(model, texts, target, 1)
    copied = aopc_bounds(copy.deepcopy(model), texts, target, 1)
    assert pairs(changed) != pairs(before)
    assert pairs(changed) == pairs(copied)


# The best ranking

THIRDS = (34.0, 67.0)


CLASS_1 = Target.of([1])


def joint(model: ExplainedModel, text: EncodedText, scores: Tensor, target: Target = CLASS_1) -> float:
    """The sum over `THIRDS` of p(only the top k) - p(without the top k)."""
    return float(top_set_values(model, Attributions([text], target, [scores]), THIRDS).sum())


def every_joint(model: ExplainedModel, text: EncodedText, target: Target = CLASS_1) -> list[float]:
    positions = text.scorable.nonzero()[:, 0]
    ranks = torch.arange(len(positions), 0, -1).float()
    orders = itertools.permutations(positions.tolist())
    every = [torch.zeros(len(text)).index_put((torch.tensor(order),), ranks) for order in orders]
    return [joint(model, text, scores, target) for scores in every]


@pytest.mark.parametrize("text", ["not good fun", "bad"])
def test_swaps_find_the_best_of_all_orders(text: str) -> None:
    model = explained("bert")
    (encoded_text,) = model.encode([text])
    found = best_ranking(model, [encoded_text], Target.of([1]), rounds=80, percents=THIRDS)
    assert joint(model, encoded_text, found[0]) == pytest.approx(max(every_joint(model, encoded_text)), abs=1e-6)
    assert sorted(found[0].tolist(), reverse=True)[: encoded_text.n_scorable] == [
        float(rank) for rank in range(encoded_text.n_scorable, 0, -1)
    ]


def test_the_best_ranking_is_no_worse_than_its_start_and_texts_search_apart() -> None:
    model = explained("bert")
    texts, target = encoded(model), Target.of([1] * len(encoded(model)))
    start = [torch.randn(len(text)) for text in texts]
    greedy = best_ranking(model, texts, target, rounds=0)
    found = best_ranking(model, texts, target, start, rounds=5)
    for i, text in enumerate(texts):
        value = [sum(_values(model, text, scores)) for scores in (start[i], greedy[i], found[i])]
        assert value[2] >= max(value[:2]) - 1e-6
    alone = best_ranking(model, texts[:1], target[:1], start[:1], rounds=5)
    assert torch.equal(alone[0], found[0])


@pytest.mark.parametrize("task", ANCHORED_TASKS)
def test_the_best_ranking_keeps_the_tokens_at_which_the_answer_is_read(task: str) -> None:
    model = explained("bert", **ANCHORED_TASKS[task])
    plain = model.encode(["not good fun"], ["not good"] if task == "question-answering" else None)
    for span in ((0, 3), (4, 8)):
        (text,), target = model.asked(plain, span)
        (found,) = best_ranking(model, [text], target, rounds=80, percents=THIRDS)
        assert joint(model, text, found, target) == pytest.approx(max(every_joint(model, text, target)), abs=1e-6)


def _values(model: ExplainedModel, text: EncodedText, scores: Tensor) -> list[float]:
    return top_set_values(model, Attributions([text], Target.of([1]), [scores]))[0].tolist()


def test_a_text_without_tokens_has_an_empty_ranking() -> None:
    model = explained("bert")
    assert torch.equal(best_ranking(model, model.encode([""]), Target.of([0]))[0], torch.zeros(2))


def test_rounds_are_not_negative() -> None:
    with pytest.raises(ValueError, match="`rounds` must not be negative, got -1"):
        best_ranking(Table(0), [text_of(2)], Target.of([0]), rounds=-1)


# On models


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bounds_of_a_model_are_those_of_all_orders(family: str) -> None:
    model = double(family)
    texts = model.encode(["not good fun", "bad"])
    bounds = aopc_bounds(model, texts, Target.of([1, 0]), 6)
    for bound, text, c in zip(pairs(bounds), texts, (1, 0), strict=True):
        assert bound == pytest.approx(straight_bounds(model, text, c, "replace"), abs=1e-6)


@pytest.mark.parametrize("operator", get_args(Operator))
@pytest.mark.parametrize("task", ["classification", "multi_label"])
def test_the_bounds_of_any_operator_are_those_of_all_orders(task: str, operator: Operator) -> None:
    model = explained("bert", **TASKS[task])
    texts = model.encode(["not good fun"])
    bounds = aopc_bounds(model, texts, Target.of([1]), 6, operator)
    assert pairs(bounds)[0] == pytest.approx(straight_bounds(model, texts[0], 1, operator), abs=1e-5)


def straight_bounds(model: ExplainedModel, text: EncodedText, c: int, operator: Operator) -> tuple[float, float]:
    def without(taken: set[int]) -> float:
        return probability(model, logits_without(model, text, taken, operator), c)

    every = every_aopc(without, text.scorable.nonzero()[:, 0].tolist())
    return min(every), max(every)


def test_the_model_is_as_it_was() -> None:
    model = explained("bert")
    with bit_equal_logits(model):
        aopc_bounds(model, encoded(model)[:1], Target.of([0]), 1)


def test_a_regression_has_no_bounds() -> None:
    model = explained("bert", **TASKS["regression"])
    given = attributions_of(model)
    with pytest.raises(ValueError, match="AOPC bounds are bounds of probabilities"):
        aopc_bounds(model, given.texts, given.target, 1)
    with pytest.raises(ValueError, match="this model predicts values"):
        ranking_aopc(model, given)
