"""A loss weight over the course of training: a constant, or a piecewise linear line."""

import math
from collections.abc import Sequence

Weight = float | Sequence[Sequence[float]]
"""A number, or points [progress, weight] with progress rising from 0 to 1; two points at one progress make a jump."""


def weight_at(weight: Weight, progress: float) -> float:
    """The weight at `progress` in [0, 1]; before the first point the first weight, after the last the last.

    >>> weight_at([[0, 1], [0.5, 1], [0.5, 0], [1, 0]], 0.75)
    0.0
    >>> weight_at([[0, 0], [1, 2]], 0.25)
    0.5
    """
    if isinstance(weight, int | float):
        return float(weight)
    left = weight[0]
    for right in weight:
        if progress < right[0]:
            span = right[0] - left[0]
            share = (progress - left[0]) / span if span > 0 else 0.0
            return left[1] + share * (right[1] - left[1])
        left = right
    return float(left[1])


def check_weight(name: str, weight: Weight) -> None:
    """Raises `ValueError` when a weight is no number from 0 up, or its points are not in the order of progress."""
    points = [[0.0, weight]] if isinstance(weight, int | float) else weight
    if not points or any(len(point) != 2 for point in points):
        raise ValueError(f"`{name}` must be a number or a list of [progress, weight] points, got {weight!r}.")
    progress = [point[0] for point in points]
    if progress != sorted(progress) or not all(0 <= one <= 1 for one in progress):
        raise ValueError(f"`{name}` must have progress rising within [0, 1], got {progress}.")
    if not all(0 <= point[1] < math.inf for point in points):
        raise ValueError(f"`{name}` must be finite and not negative, got {weight!r}.")
