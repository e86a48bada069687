"""The bootstrap: coverage, pairing, missing values."""

import math

import numpy as np
import pytest

from explainer.metrics import Estimate, bootstrap_mean


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for trial in range(300):
        estimate = bootstrap_mean(generator.exponential(size=40), samples=300, seed=trial)
        hits += estimate.low <= 1.0 <= estimate.high
    assert 0.88 < hits / 300 < 0.98  # percentile intervals of a skewed mean cover a little less than 95 %


def test_the_interval_s_width_is_the_normal_one_s() -> None:
    values = np.random.default_rng(0).normal(size=400)
    estimate = bootstrap_mean(values, samples=4000)
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.low < estimate.mean < estimate.high
    assert (estimate.high - estimate.low) == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_a_paired_difference_is_narrower_than_two_unpaired_means() -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(size=100)
    better = base + 0.1 + 0.05 * generator.normal(size=100)
    paired = bootstrap_mean(better - base, samples=1000)
    one, two = bootstrap_mean(better, samples=1000), bootstrap_mean(base, samples=1000)
    assert paired.low > 0
    assert one.low < two.high
    assert paired.mean == pytest.approx(one.mean - two.mean)


def test_missing_values_are_left_out_and_not_counted() -> None:
    assert bootstrap_mean([1.0, math.nan, 3.0]) == bootstrap_mean([1.0, 3.0])
    assert bootstrap_mean([1.0, math.nan, 3.0]).n == 2


def test_one_value_is_its_own_mean() -> None:
    assert bootstrap_mean([3.0]) == Estimate(3.0, 3.0, 3.0, 1)


@pytest.mark.parametrize("values", [[], [math.nan]])
def test_no_values_have_no_mean(values: list[float]) -> None:
    estimate = bootstrap_mean(values)
    assert estimate.n == 0
    assert all(math.isnan(number) for number in (estimate.mean, estimate.low, estimate.high))


def test_resamples_drawn_in_blocks_are_those_drawn_at_once() -> None:
    values = np.random.default_rng(0).normal(size=300)
    places = np.random.default_rng(7).integers(0, 300, (5000, 300))  # blocks hold a million numbers
    low, high = np.percentile(values[places].mean(axis=1), [2.5, 97.5])
    assert bootstrap_mean(values, samples=5000, seed=7) == Estimate(values.mean(), low, high, 300)


def test_by_default_there_are_ten_thousand_resamples_of_seed_0() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert bootstrap_mean(values) == bootstrap_mean(values, samples=10_000, seed=0)
    assert bootstrap_mean(values) != bootstrap_mean(values, samples=10_001, seed=0)


def test_the_seed_decides() -> None:
    values = [0.0, 1.0, 5.0, 2.0, 7.0]
    assert bootstrap_mean(values, samples=500) == bootstrap_mean(values, samples=500)
    assert bootstrap_mean(values, samples=500, seed=1) != bootstrap_mean(values, samples=500, seed=2)


def test_an_estimate_reads_as_mean_and_interval() -> None:
    assert str(Estimate(0.1234, -0.5, 1.0, 3)) == "0.123 [-0.500, 1.000]"


def test_fewer_samples_than_a_hundred_work() -> None:
    assert bootstrap_mean([1.0, 2.0], samples=50).n == 2
