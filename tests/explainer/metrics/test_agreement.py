"""Rank agreement against scipy, ties included, and overlap by hand."""

import math

import pytest
import scipy.stats
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from explainer.metrics import kendall, spearman, top_k_overlap

# Small integers tie often.
PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=12)
FUNCTIONS = {"spearman": (spearman, scipy.stats.spearmanr), "kendall": (kendall, scipy.stats.kendalltau)}


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(deadline=None, max_examples=60)
@given(PAIRS)
def test_correlation_is_scipy_s(name: str, pairs: list[tuple[int, int]]) -> None:
    ours, theirs = FUNCTIONS[name]
    one, two = zip(*pairs, strict=True)
    assume(len(set(one)) > 1 and len(set(two)) > 1)
    found = ours(torch.tensor(one).float(), torch.tensor(two).float()).item()
    assert found == pytest.approx(theirs(one, two).statistic, abs=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_correlation_of_real_scores_is_scipy_s(name: str) -> None:
    ours, theirs = FUNCTIONS[name]
    one, two = torch.randn(60), torch.randn(60)
    assert ours(one, two).item() == pytest.approx(theirs(one, two).statistic, abs=1e-5)


@pytest.mark.parametrize("function", [spearman, kendall])
@pytest.mark.parametrize("scores", [[], [1.0], [2.0, 2.0, 2.0]])
def test_too_few_or_constant_scores_have_no_correlation(function: object, scores: list[float]) -> None:
    assert callable(function)
    values = torch.tensor(scores)
    reference = torch.arange(len(scores)).float()
    assert math.isnan(function(values, reference).item())
    assert math.isnan(function(reference, values).item())


def test_overlap_counts_the_reference_s_top_tokens() -> None:
    scores, reference = torch.tensor([5.0, 4, 3, 2, 1]), torch.tensor([1.0, 9, 8, 2, 3])
    assert top_k_overlap(scores, reference, percent=40.0).item() == 0.5
    assert top_k_overlap(scores, reference, percent=60.0).item() == pytest.approx(2 / 3)
    assert top_k_overlap(scores, reference, percent=100.0).item() == 1


def test_overlap_has_one_token_at_least_and_none_of_none() -> None:
    assert top_k_overlap(torch.tensor([2.0, 1.0]), torch.tensor([3.0, 0.0])).item() == 1
    assert top_k_overlap(torch.tensor([2.0, 1.0, 0.0]), torch.tensor([3.0, 0.0, 1.0])).item() == 1
    assert math.isnan(top_k_overlap(torch.zeros(0), torch.zeros(0)).item())
    assert top_k_overlap(torch.ones(1), torch.ones(1)).item() == 1


def test_overlap_is_of_a_fifth_by_default() -> None:
    scores = torch.arange(100.0, 0.0, -1.0)
    reference = scores.clone()
    reference[20], reference[50] = 50.0, 80.0  # the same first twenty, another one after them
    assert top_k_overlap(scores, reference).item() == 1


def test_overlap_breaks_ties_by_position() -> None:
    every_third = (torch.arange(1000) % 3 == 0).float()
    assert top_k_overlap(every_third, every_third - torch.arange(1000) * 1e-6).item() == 1  # earlier ones are higher
    assert top_k_overlap(torch.zeros(4), torch.tensor([1.0, 1.0, 0.0, 0.0]), percent=50.0).item() == 1
