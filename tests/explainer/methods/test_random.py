"""Random scores: uniform, and decided by the seed and the text's tokens alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from explainer.explained import Target
from explainer.methods import Random
from tests.explainer.tools import encoded
from tests.families import TEXTS, explained

MODEL = explained("bert")


def scores(method: Random, texts: Sequence[str] = TEXTS, label: int = 0) -> list[Tensor]:
    return list(method.attribute(MODEL, encoded(MODEL, texts), Target.of([label] * len(texts))).scores)


def test_another_seed_or_text_has_other_scores() -> None:
    texts = ["the film was good", "the plot was good"]
    first, second = scores(Random(), texts)
    assert not torch.equal(first, second)
    assert not torch.equal(scores(Random(seed=1), texts)[0], first)


def test_scores_do_not_depend_on_target_or_global_seed() -> None:
    expected = torch.cat(scores(Random()))
    torch.manual_seed(123)
    assert torch.equal(torch.cat(scores(Random(), label=1)), expected)


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    scores(Random())
    assert torch.equal(torch.get_rng_state(), state)


def test_scores_are_uniform_over_seeds() -> None:
    scorable = encoded(MODEL, TEXTS[3:])[0].scorable
    values = torch.cat([scores(Random(seed=seed), TEXTS[3:])[0][scorable] for seed in range(50)])
    assert len(values) == 50 * int(scorable.sum())
    assert ((values >= 0) & (values < 1)).all()
    assert abs(values.mean().item() - 1 / 2) < 0.04  # four standard errors
    assert abs(values.var().item() - 1 / 12) < 0.01
