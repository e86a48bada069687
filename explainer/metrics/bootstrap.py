"""Percentile bootstrap over texts: intervals of a mean and of a paired difference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` texts with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def record(self) -> dict[str, Any]:
        """Mean and interval as files of results have them."""
        return {"mean": self.mean, "ci95": [self.low, self.high]}


def bootstrap_mean(values: Sequence[float] | np.ndarray, samples: int = 10_000, seed: int = 0) -> Estimate:
    """Mean and 95 % percentile interval; texts without a value (NaN) are left out and not counted.

    For a paired comparison pass the differences text by text.

    >>> bootstrap_mean([1.0, 1.0, 1.0])
    Estimate(mean=1.0, low=1.0, high=1.0, n=3)
    """
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    if len(array) == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    generator = np.random.default_rng(seed)
    block = max(1, 1_000_000 // len(array))  # resamples drawn at once: bounded memory
    counts = [min(block, samples - start) for start in range(0, samples, block)]
    means = np.concatenate([array[generator.integers(0, len(array), (m, len(array)))].mean(axis=1) for m in counts])
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(array.mean()), float(low), float(high), len(array))
