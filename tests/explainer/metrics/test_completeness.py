"""The gap is the distance of two sums, one a text."""

import torch

from explainer.metrics import completeness_gap


def test_the_gap_is_the_distance_either_way() -> None:
    gap = completeness_gap(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([2.0, 2.0, 2.0]))
    assert gap.tolist() == [1.0, 1.0, 0.0]
