"""Hit@1 by hand: what is ranked, and ties."""

import torch

from explainer.metrics import hit_at_1

EVIDENCE = torch.tensor([False, True, True, False])
ALL = torch.ones(4, dtype=torch.bool)


def test_any_evidence_token_may_be_the_highest() -> None:
    assert hit_at_1(torch.tensor([0.0, 2.0, 1.0, 1.5]), EVIDENCE, ALL) == 1
    assert hit_at_1(torch.tensor([0.0, 1.0, 2.0, 1.5]), EVIDENCE, ALL) == 1
    assert hit_at_1(torch.tensor([0.0, 1.0, 2.0, 2.5]), EVIDENCE, ALL) == 0


def test_tokens_that_are_not_ranked_do_not_count() -> None:
    scores = torch.tensor([3.0, 2.0, -1.0, 0.0])
    assert hit_at_1(scores, EVIDENCE, ALL) == 0
    assert hit_at_1(scores, EVIDENCE, torch.tensor([False, True, True, True])) == 1
    assert hit_at_1(scores, EVIDENCE, torch.tensor([False, False, True, True])) == 0  # all scores may be negative


def test_the_first_of_equal_scores_counts() -> None:
    assert hit_at_1(torch.zeros(4), EVIDENCE, ALL) == 0
    assert hit_at_1(torch.zeros(4), EVIDENCE, ~torch.tensor([True, False, False, False])) == 1
