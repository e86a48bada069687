"""Random scores: uniform, and decided by the seed and the text's tokens alone."""

import torch

from explainer.methods import Random
from tests.explainer.tools import batch_of
from tests.families import TEXTS, explained

MODEL = explained("bert")
TARGET = torch.zeros(4, dtype=torch.int64)


def test_another_seed_or_text_has_other_scores() -> None:
    batch = batch_of(MODEL, ["the film was good", "the plot was good"])
    first, second = Random()(MODEL, batch, TARGET[:2])
    assert not torch.equal(first, second)
    assert not torch.equal(Random(seed=1)(MODEL, batch, TARGET[:2])[0], first)


def test_scores_do_not_depend_on_target_or_global_seed() -> None:
    batch = batch_of(MODEL)
    expected = Random()(MODEL, batch, TARGET)
    torch.manual_seed(123)
    assert torch.equal(Random()(MODEL, batch, TARGET + 1), expected)


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    Random()(MODEL, batch_of(MODEL), TARGET)
    assert torch.equal(torch.get_rng_state(), state)


def test_scores_are_uniform_over_seeds() -> None:
    batch = batch_of(MODEL, TEXTS[3:])
    values = torch.cat([Random(seed=seed)(MODEL, batch, TARGET[:1])[batch.scorable] for seed in range(50)])
    assert len(values) == 50 * int(batch.scorable.sum())
    assert ((values >= 0) & (values < 1)).all()
    assert abs(values.mean().item() - 1 / 2) < 0.04  # four standard errors
    assert abs(values.var().item() - 1 / 12) < 0.01
