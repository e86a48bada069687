"""Mask-LRP's areas and answer tokens: closed forms and bounds."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from explainer.metrics import AnswerPrecision, answer_precision, aopc, mask_lrp_aopc, mask_lrp_log_odds

PROBABILITY = st.floats(2**-10, 1.0, width=32)


@given(PROBABILITY, st.lists(PROBABILITY, min_size=9, max_size=9))
def test_areas_are_means_over_the_steps(whole: float, steps: list[float]) -> None:
    p, q = torch.tensor([whole]), torch.tensor([steps])
    fall = sum(whole - step for step in steps) / 9
    assert mask_lrp_aopc(p, q).item() == pytest.approx(fall, abs=1e-5)
    assert mask_lrp_log_odds(p, q).item() == pytest.approx(sum(math.log(s / whole) for s in steps) / 9, abs=1e-4)
    assert mask_lrp_aopc(p, q).item() == pytest.approx(aopc(p, q).item() * 10 / 9, abs=1e-5)


@given(st.lists(PROBABILITY, min_size=9, max_size=9), st.integers(0, 8))
def test_a_lower_probability_at_any_step_is_better(steps: list[float], at: int) -> None:
    whole, lower = torch.tensor([0.9]), list(steps)
    lower[at] /= 2
    before, after = torch.tensor([steps]), torch.tensor([lower])
    assert mask_lrp_aopc(whole, after) > mask_lrp_aopc(whole, before)
    assert mask_lrp_log_odds(whole, after) < mask_lrp_log_odds(whole, before)


def test_log_odds_of_a_probability_of_0_is_finite() -> None:
    assert torch.isfinite(mask_lrp_log_odds(torch.tensor([1.0]), torch.zeros(1, 9))).all()


def test_answer_tokens_among_the_twenty_highest() -> None:
    scores = torch.arange(30).float()
    answer = torch.zeros(30, dtype=torch.bool)
    answer[[9, 10, 11, 29]] = True  # the lowest of the twenty is 10
    assert answer_precision(scores, answer, torch.ones_like(answer)).item() == 0.75
    assert answer_precision(-scores, answer, torch.ones_like(answer)).item() == 0.75
    assert answer_precision(scores, answer, torch.ones_like(answer), k=1).item() == 0.25


def test_specials_take_no_place_and_ties_go_to_the_front() -> None:
    scores = torch.tensor([0.0, -1.0, -1.0, -2.0, 0.0])
    scorable = torch.tensor([False, True, True, True, False])
    for place, found in ((1, 1.0), (2, 0.0), (3, 0.0)):
        assert answer_precision(scores, torch.arange(5) == place, scorable, k=1).item() == found
    many, every_third = torch.arange(1000), torch.arange(1000) % 3 == 0
    first = every_third & (many < 60)
    assert answer_precision(every_third.float(), first, torch.ones_like(first)).item() == 1


@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=12), st.integers(1, 12))
def test_answer_precision_counts_as_a_loop_does(tokens: list[tuple[int, bool]], k: int) -> None:
    scores = torch.tensor([float(score) for score, _ in tokens])
    answer = torch.tensor([gold for _, gold in tokens])
    ranked = sorted(range(len(tokens)), key=lambda i: (-tokens[i][0], i))[:k]
    found = answer_precision(scores, answer, torch.ones_like(answer), k=k).item()
    if answer.any():
        assert found == pytest.approx(sum(tokens[i][1] for i in ranked) / int(answer.sum()))
        assert 0 <= found <= 1
    else:
        assert math.isnan(found)


def test_the_class_is_at_twenty() -> None:
    metric, scores = AnswerPrecision(), torch.arange(30).float()
    metric.update([scores], [scores <= 10], [scores >= 0])
    assert metric.compute().item() == pytest.approx(1 / 11)
    with pytest.raises(ValueError, match="shorter than"):
        metric.update([scores, scores], [scores <= 10], [scores >= 0])


def test_the_class_leaves_out_texts_without_an_answer() -> None:
    metric = AnswerPrecision()
    assert metric.higher_is_better is True
    every = [torch.ones(3, dtype=torch.bool)] * 2
    scores = [torch.tensor([1.0, 2.0, 3.0])] * 2
    metric.update(scores, [torch.tensor([True, False, False]), torch.zeros(3, dtype=torch.bool)], every)
    assert metric.compute().item() == 1
    assert metric.count.item() == 1
