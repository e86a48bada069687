"""Sensitivity: noise on words alone, gone afterwards, and the largest change against a loop."""

import pytest
import torch
from torch import Tensor

from explainer.evaluation.sensitivity import noisy_words, sensitivity_max
from explainer.explained import Target
from explainer.methods import SIG, GreedyDeletion, InputXGradient, LeaveOneOut, Random
from tests.explainer.tools import batch_of, bit_equal_logits, double, encoded, logits_of, relative_error
from tests.families import FAMILIES, TASKS, TEXTS, explained

TARGET = Target.of([0, 1, 2, 0])
every_family = pytest.mark.parametrize("family", FAMILIES)


@every_family
def test_noise_moves_words_alone_and_is_gone_afterwards(family: str) -> None:
    model = explained(family)
    batch = batch_of(model)
    seen: list[Tensor] = []

    def read(embeddings: Tensor) -> Tensor:
        seen.append(embeddings.clone())
        return embeddings

    with bit_equal_logits(model):
        model(batch, edit=read)
        plain = logits_of(model, batch)
        with noisy_words(model, 0.1, seed=3):
            model(batch, edit=read)
            assert not torch.equal(logits_of(model, batch), plain)
            assert torch.allclose(logits_of(model, batch, edit=lambda e: e), logits_of(model, batch), atol=1e-6)
    noise = seen[1] - seen[0]
    assert (noise[~batch.scorable] == 0).all()
    moved = batch.scorable & (batch.input_ids != model.baseline_token_id)
    assert (noise[moved].abs().sum(dim=-1) > 0).all()
    everything = model.embedding(torch.arange(model.embedding.num_embeddings))
    bound = 0.1 * everything.pow(2).mean().sqrt()
    assert noise.abs().max() <= bound * 1.001
    assert noise.abs().max() > bound * 0.9
    very = batch.input_ids[3] == model.tokenizer.convert_tokens_to_ids(model.tokenizer.tokenize("the very")[-1])
    assert very.sum() == 2
    assert relative_error(*noise[3][very]) < 1e-5  # one word, one noise


def test_noise_is_gone_after_an_exception() -> None:
    model = explained("t5")
    with bit_equal_logits(model), pytest.raises(RuntimeError), noisy_words(model, 0.1, seed=0):
        raise RuntimeError


@pytest.mark.parametrize("task", TASKS)
def test_sensitivity_is_the_largest_relative_change_of_the_scores(task: str) -> None:
    model = explained("bert", **TASKS[task])
    texts, method = encoded(model), InputXGradient()
    target = model.predicted(texts)
    plain = method.attribute(model, texts, target).scores
    expected = torch.zeros(len(texts))
    for number in (1, 2, 3):
        with noisy_words(model, 0.05, number):
            noisy = method.attribute(model, texts, target).scores
        change = [(n - p).norm() / p.norm() for n, p in zip(noisy, plain, strict=True)]
        expected = torch.maximum(expected, torch.stack(change))
    found = sensitivity_max(method, model, texts, target, perturb_radius=0.05, n_perturb_samples=3)
    assert relative_error(found, expected) < 1e-4


@every_family
def test_sensitivity_grows_with_the_radius_and_is_0_where_nothing_moves(family: str) -> None:
    model = double(family)
    texts, target = encoded(model, TEXTS[:2]), TARGET[:2]
    small, large = (
        sensitivity_max(SIG(), model, texts, target, perturb_radius=radius, n_perturb_samples=2)
        for radius in (0.001, 0.1)
    )
    assert (small > 0).all()
    assert (small < large).all()
    assert (sensitivity_max(Random(), model, texts, target, n_perturb_samples=2) == 0).all()


def test_sensitivity_of_a_text_does_not_depend_on_its_company_also_when_tokens_are_deleted() -> None:
    model = double("bert")
    texts = encoded(model)
    for method in (LeaveOneOut(), GreedyDeletion()):
        together = sensitivity_max(method, model, texts, TARGET, perturb_radius=0.2, n_perturb_samples=2)
        alone = sensitivity_max(method, model, texts[1:2], TARGET[1:2], perturb_radius=0.2, n_perturb_samples=2)
        assert together[1].item() == pytest.approx(alone.item(), rel=1e-4)
    assert sensitivity_max(SIG(), model, [], TARGET[:0]).shape == (0,)
