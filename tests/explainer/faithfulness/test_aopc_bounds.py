"""Beam search for the extremes of AOPC, against all orders."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from explainer.explained import EncodedText, ExplainedModel, Tokens
from explainer.faithfulness.aopc_bounds import AOPCBounds, aopc_bounds, ranking_aopc
from explainer.typing import Target
from tests.explainer.tools import bit_equal_logits, double, encoded
from tests.families import FAMILIES, explained

BASELINE = 999


class Table(ExplainedModel):
    """Stands for an explained model: the probability of class 0 is random by the set of replaced positions."""

    def __init__(self, seed: int) -> None:
        nn.Module.__init__(self)
        self.seed, self.baseline_token_id = seed, BASELINE
        self.passes = 0

    def predict(self, rows: Sequence[Tokens]) -> Tensor:
        self.passes += len({row.key for row in rows})
        p = torch.tensor([self.probability(row) for row in rows], dtype=torch.float64)
        return torch.stack([p, 1 - p], dim=1).log()

    def probability(self, row: Tokens) -> float:
        replaced = (row.input_ids == BASELINE).nonzero()[:, 0].tolist()
        number = hash((self.seed, len(row), *replaced))
        return torch.rand(1, generator=torch.Generator().manual_seed(number % 2**62)).item() * 0.9 + 0.05


class Additive(Table):
    """Each token lowers the probability by its own amount, whatever else is replaced."""

    def probability(self, row: Tokens) -> float:
        return 0.9 - float(((row.input_ids == BASELINE) * self.amounts(len(row))).sum())

    def amounts(self, length: int) -> Tensor:
        return torch.rand(length, generator=torch.Generator().manual_seed(self.seed)) * 0.8 / length


def text_of(n: int) -> EncodedText:
    """A special at either end, n scorable tokens between."""
    length = n + 2
    scorable = torch.tensor([False, *[True] * n, False])
    places = ((0, 0),) * length
    return EncodedText("", None, Tokens(torch.arange(length)), scorable, places, (0,) * length, (0,) * length)


def every_aopc(model: ExplainedModel, text: EncodedText, c: int) -> list[float]:
    """The AOPC of all n! orders, each set of replaced tokens predicted by itself."""
    places = text.scorable.nonzero()[:, 0].tolist()

    def probability(replaced: tuple[int, ...]) -> float:
        ids = text.tokens.input_ids.clone()
        ids[list(replaced)] = model.baseline_token_id
        return model.predict([Tokens(ids, text.tokens.token_type_ids)]).softmax(dim=-1)[0, c].item()

    p = {found: probability(found) for k in range(len(places) + 1) for found in itertools.combinations(places, k)}
    return [
        sum(p[()] - p[tuple(sorted(order[:k]))] for k in range(1, len(order) + 1)) / len(order)
        for order in itertools.permutations(places)
    ]


def pairs(bounds: AOPCBounds) -> list[tuple[float, float]]:
    return list(zip(bounds.lower.tolist(), bounds.upper.tolist(), strict=True))


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.integers(0, 1), st.integers(0, 99))
def test_a_beam_of_every_set_is_exact(lengths: list[int], c: int, seed: int) -> None:
    model, texts = Table(seed), [text_of(n) for n in lengths]
    target: Target = torch.full((len(texts),), c)
    width = max(math.comb(n, n // 2) for n in lengths)
    for (lower, upper), text in zip(pairs(aopc_bounds(model, texts, target, width)), texts, strict=True):
        every = every_aopc(model, text, c)
        assert lower == pytest.approx(min(every), abs=1e-6)
        assert upper == pytest.approx(max(every), abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(0, 99))
def test_the_bounds_of_any_beam_are_reached_and_lie_inside(n: int, width: int, seed: int) -> None:
    model, text, target = Table(seed), text_of(n), torch.tensor([0])
    exact = aopc_bounds(model, [text], target, math.comb(n, n // 2))
    found = aopc_bounds(model, [text], target, width)
    assert exact.lower <= found.lower + 1e-6
    assert found.lower <= found.upper + 1e-6
    assert found.upper <= exact.upper + 1e-6


@pytest.mark.parametrize("width", [1, 3])
def test_where_effects_add_up_one_set_is_enough_and_their_order_is_best(width: int) -> None:
    model, text, target = Additive(3), text_of(9), torch.tensor([0])
    amounts = model.amounts(len(text))
    best, worst = (ranking_aopc(model, [text], [sign * amounts], target) for sign in (1, -1))
    found = aopc_bounds(model, [text], target, width)
    assert torch.allclose(found.upper.double(), best, atol=1e-6)
    assert torch.allclose(found.lower.double(), worst, atol=1e-6)


def test_a_ranking_s_aopc_is_that_of_its_order() -> None:
    model, text = Table(5), text_of(4)
    every = every_aopc(model, text, 1)
    for order, expected in zip(itertools.permutations([1, 2, 3, 4]), every, strict=True):
        scores = torch.tensor([9.0, *[-float(order.index(place)) for place in (1, 2, 3, 4)], 9.0])
        assert ranking_aopc(model, [text], [scores], torch.tensor([1])).item() == pytest.approx(expected, abs=1e-6)


def test_a_closed_form() -> None:
    """p falls from 0.9 by 0.1 with token 1 and by 0.3 with token 2."""

    class Two(Additive):
        def amounts(self, length: int) -> Tensor:
            return torch.tensor([0.0, 0.1, 0.3, 0.0])

    found = aopc_bounds(Two(0), [text_of(2)], torch.tensor([0]), 1)
    assert pairs(found) == [(pytest.approx((0.1 + 0.4) / 2), pytest.approx((0.3 + 0.4) / 2))]


def test_texts_search_apart_and_end_when_they_are_done() -> None:
    model, texts, target = Table(7), [text_of(n) for n in (5, 0, 1, 3)], torch.tensor([0, 0, 1, 1])
    together = aopc_bounds(model, texts, target, 2)
    for i, text in enumerate(texts):
        alone = aopc_bounds(model, [text], target[i : i + 1], 2)
        assert torch.allclose(together.lower[i], alone.lower[0], equal_nan=True)
        assert torch.allclose(together.upper[i], alone.upper[0], equal_nan=True)
    assert together.upper[1].isnan()
    assert together.lower[2] == together.upper[2]
    assert ranking_aopc(model, [texts[1]], [torch.zeros(2)], target[:1]).isnan().all()


def test_the_cost_is_the_beam_s() -> None:
    model, n = Table(1), 8
    aopc_bounds(model, [text_of(n)], torch.tensor([0]), 2)
    assert model.passes <= 1 + 2 * 2 * n * (n + 1) // 2
    narrow = model.passes
    aopc_bounds(model, [text_of(n)], torch.tensor([0]), 4)
    assert model.passes - narrow > narrow


def test_a_beam_has_a_width() -> None:
    with pytest.raises(ValueError, match="`beam_width` must be a positive number of sets, got 0"):
        aopc_bounds(Table(0), [text_of(2)], torch.tensor([0]), 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_bounds_of_a_model_are_those_of_all_orders(family: str) -> None:
    model = double(family)
    texts = model.encode(["not good fun", "bad"])
    found = aopc_bounds(model, texts, torch.tensor([1, 0]), 6)
    for (lower, upper), text, c in zip(pairs(found), texts, (1, 0), strict=True):
        every = every_aopc(model, text, c)
        assert lower == pytest.approx(min(every), abs=1e-6)
        assert upper == pytest.approx(max(every), abs=1e-6)


def test_the_model_is_as_it_was() -> None:
    model = explained("bert")
    with bit_equal_logits(model):
        aopc_bounds(model, encoded(model)[:1], torch.tensor([0]), 1)


def test_scores_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`scores\[0\]` has 9 entries, the text has 4 tokens"):
        ranking_aopc(Table(0), [text_of(2)], [torch.zeros(9)], torch.tensor([0]))
