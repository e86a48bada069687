"""Infidelity against a loop that is written out."""

import pytest
import torch
from torch import Tensor

from explainer.evaluation.infidelity import _absences, infidelity
from explainer.explained import Attributions, EncodedText, ExplainedModel, Target
from explainer.methods import SIG, LeaveOneOut, Random
from explainer.methods.random import generator_of
from tests.explainer.faithfulness.straight import attributions_of, logits_without
from tests.explainer.tools import double, encoded, relative_error
from tests.families import TASKS, TEXTS, explained

TARGET = Target.of([0, 1, 2, 0])


def falls(model: ExplainedModel, text: EncodedText, absent: Tensor, c: int) -> Tensor:
    """The falls of the logit when the given sets of scorable tokens are replaced, one model call each."""
    positions = text.scorable.nonzero()[:, 0]
    whole = logits_without(model, text, set(), "replace")[c]
    sets = [set(positions[row.bool()].tolist()) for row in absent]
    return torch.stack([whole - logits_without(model, text, taken, "replace")[c] for taken in sets])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_is_the_mean_squared_error_of_the_sums(family: str, normalize: bool, task: str) -> None:
    model = explained(family, **TASKS[task])
    given = attributions_of(model, TEXTS[:2])
    found = infidelity(model, given, n_perturb_samples=6, normalize=normalize)
    for text, scores, value, c in zip(given.texts, given.scores, found, given.target.classes.tolist(), strict=True):
        generator = generator_of(text.tokens, 0)
        sizes = torch.randint(1, text.n_scorable + 1, (6, 1), generator=generator)
        absent = (torch.rand(6, text.n_scorable, generator=generator).argsort(dim=1) < sizes).double()
        sums, fall = absent @ scores[text.scorable].double(), falls(model, text, absent, c).double()
        scale = (sums @ fall) / (sums @ sums) if normalize else 1.0
        assert value.item() == pytest.approx((scale * sums - fall).pow(2).mean().item(), rel=2e-3)


def test_the_fall_is_that_of_the_objective() -> None:
    model = double("bert")
    given = attributions_of(model)
    foil = (given.target.choices + 1) % 3
    contrast = Attributions(given.texts, Target(given.target.choices, foil), given.scores)
    turned = Attributions(given.texts, Target(foil, given.target.choices), [-scores for scores in given.scores])
    assert torch.allclose(infidelity(model, contrast), infidelity(model, turned), rtol=1e-5)
    assert not torch.allclose(infidelity(model, contrast), infidelity(model, given), rtol=1e-2)


def test_sets_have_every_size_from_one_token_to_all() -> None:
    absent, present = _absences(torch.ones(500, 4), torch.Generator().manual_seed(0))
    counts = absent.sum(dim=1).int().bincount(minlength=5)
    assert counts[0] == 0
    assert all(90 < n < 160 for n in counts[1:].tolist())
    assert torch.equal(absent + present, torch.ones(500, 4))
    assert absent.mean(dim=0).sub(0.625).abs().max() < 0.08


def test_normalized_infidelity_does_not_know_the_scale_and_ranks_scores_above_random_ones() -> None:
    model = double("gpt2")
    texts = encoded(model)
    good, random, sig = (method.attribute(model, texts, TARGET) for method in (LeaveOneOut(), Random(), SIG()))
    scaled = Attributions(texts, TARGET, [100 * scores for scores in good.scores])
    assert relative_error(infidelity(model, scaled), infidelity(model, good)) < 1e-3
    assert infidelity(model, sig).mean() < infidelity(model, random).mean()


def test_infidelity_of_a_text_does_not_depend_on_its_company() -> None:
    model = double("bert")
    given = attributions_of(model, [*TEXTS, ""], [0, 1, 2, 0, 1])
    together = infidelity(model, given)
    second = Attributions(given.texts[1:2], given.target[1:2], given.scores[1:2])
    alone = infidelity(model, second)
    assert together[1].item() == pytest.approx(alone.item(), rel=1e-5)
    assert together[4] == 0
    assert infidelity(model, second, seed=1).item() != alone.item()
