"""Infidelity, sensitivity and the completeness gap: against loops written out, and on every family."""

import pytest
import torch
from torch import Tensor

from explainer.evaluation.robustness import _absences, completeness_gap, infidelity, noisy_words, sensitivity_max
from explainer.explained import EncodedText, ExplainedModel
from explainer.methods import SIG, GreedyDeletion, InputTimesGradient, IntegratedGradientsMethod, LeaveOneOut, Random
from explainer.methods.random import generator_of
from explainer.methods.run import scores_of
from tests.explainer.tools import batch_of, bit_equal_logits, double, encoded, relative_error
from tests.families import FAMILIES, TEXTS, explained

TARGET = torch.tensor([0, 1, 2, 0])
every_family = pytest.mark.parametrize("family", FAMILIES)


# Completeness gap


@every_family
def test_the_completeness_gap_closes_with_the_steps_of_the_integral(family: str) -> None:
    model = double(family)
    texts = encoded(model)
    gaps = []
    for n_steps in (2, 64):
        method = IntegratedGradientsMethod(n_steps=n_steps)
        gaps.append(completeness_gap(method, model, texts, scores_of(method, model, texts, TARGET), TARGET))
    assert gaps[0].shape == (len(texts),)
    assert gaps[1].max() < gaps[0].max() / 20


def test_the_gap_is_that_to_the_text_of_baseline_tokens() -> None:
    model = double("bert")
    texts = encoded(model)
    nothing = [torch.zeros(len(text)) for text in texts]
    gaps = completeness_gap(IntegratedGradientsMethod(), model, texts, nothing, TARGET)
    for text, gap, c in zip(texts, gaps, TARGET, strict=True):
        empty = text.tokens.input_ids.masked_fill(text.scorable, model.tokenizer.mask_token_id)
        whole, none = (model.model(input_ids=ids[None]).logits[0, c] for ids in (text.tokens.input_ids, empty))
        assert gap.item() == pytest.approx((whole - none).abs().item(), rel=1e-5)


def test_a_method_that_promises_no_sum_has_no_gap() -> None:
    model = explained("bert")
    texts = encoded(model)
    with pytest.raises(ValueError, match=r"`method` 'sig' does not promise"):
        completeness_gap(SIG(), model, texts, scores_of(SIG(), model, texts, TARGET), TARGET)


# Infidelity


def falls(model: ExplainedModel, text: EncodedText, absent: Tensor, c: int) -> Tensor:
    """The logit's falls when the given sets of scorable tokens are replaced, one model call each."""
    places = text.scorable.nonzero()[:, 0]
    rows = text.tokens.input_ids.repeat(len(absent), 1)
    rows[:, places] = torch.where(absent.bool(), model.baseline_token_id, rows[:, places])
    whole = model.model(input_ids=text.tokens.input_ids[None]).logits[0, c]
    return torch.stack([whole - model.model(input_ids=row[None]).logits[0, c] for row in rows])


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("normalize", [False, True])
def test_infidelity_is_the_mean_squared_error_of_the_sums(family: str, normalize: bool) -> None:
    model = double(family)
    texts = encoded(model, TEXTS[:2])
    scores = [torch.randn(len(text)) * text.scorable for text in texts]
    found = infidelity(model, texts, scores, TARGET[:2], n_perturb_samples=6, normalize=normalize)
    for text, score, value, c in zip(texts, scores, found, TARGET.tolist(), strict=False):
        generator = generator_of(text.tokens, 0)
        sizes = torch.randint(1, text.n_scorable + 1, (6, 1), generator=generator)
        absent = (torch.rand(6, text.n_scorable, generator=generator).argsort(dim=1) < sizes).double()
        sums, fall = absent @ score[text.scorable].double(), falls(model, text, absent, c)
        scale = (sums @ fall) / (sums @ sums) if normalize else 1.0
        assert value.item() == pytest.approx((scale * sums - fall).pow(2).mean().item(), rel=1e-3)


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
    good, bad = (scores_of(method, model, texts, TARGET) for method in (LeaveOneOut(), Random()))
    value = infidelity(model, texts, good, TARGET)
    assert relative_error(infidelity(model, texts, [100 * score for score in good], TARGET), value) < 1e-3
    assert (
        infidelity(model, texts, scores_of(SIG(), model, texts, TARGET), TARGET).mean()
        < infidelity(model, texts, bad, TARGET).mean()
    )


def test_infidelity_of_a_text_does_not_depend_on_its_company() -> None:
    model = double("bert")
    texts = [*encoded(model), *encoded(model, [""])]
    scores = [torch.rand(len(text)) for text in texts]
    together = infidelity(model, texts, scores, torch.tensor([0, 1, 2, 0, 1]))
    alone = infidelity(model, texts[1:2], scores[1:2], TARGET[1:2])
    assert together[1].item() == pytest.approx(alone.item(), rel=1e-5)
    assert together[4] == 0
    assert infidelity(model, texts[1:2], scores[1:2], TARGET[1:2], seed=1).item() != alone.item()


# Sensitivity


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
        plain = model(batch)
        with noisy_words(model, 0.1, seed=3):
            model(batch, edit=read)
            assert not torch.equal(model(batch), plain)
            assert torch.allclose(model(batch, edit=lambda e: e), model(batch), atol=1e-6)
    noise = seen[1] - seen[0]
    assert (noise[~batch.scorable] == 0).all()
    assert (noise[batch.scorable].abs().sum(dim=-1) > 0).all()
    everything = model.embedding(torch.arange(model.embedding.num_embeddings))
    bound = 0.1 * everything.pow(2).mean().sqrt()
    assert noise.abs().max() <= bound * 1.001
    assert noise.abs().max() > bound * 0.9
    very = batch.input_ids[3] == model.tokenizer.convert_tokens_to_ids("very")
    assert very.sum() == 2
    assert relative_error(*noise[3][very]) < 1e-5  # one word, one noise


def test_noise_is_gone_after_an_exception() -> None:
    model = explained("t5")
    with bit_equal_logits(model), pytest.raises(RuntimeError), noisy_words(model, 0.1, seed=0):
        raise RuntimeError


def test_sensitivity_is_the_largest_relative_change_of_the_scores() -> None:
    model = double("bert")
    texts = encoded(model)
    method = InputTimesGradient()
    plain = scores_of(method, model, texts, TARGET)
    expected = torch.zeros(len(texts))
    for number in (1, 2, 3):
        with noisy_words(model, 0.05, number):
            noisy = scores_of(method, model, texts, TARGET)
        change = [(n - p).norm() / p.norm() for n, p in zip(noisy, plain, strict=True)]
        expected = torch.maximum(expected, torch.stack(change))
    found = sensitivity_max(method, model, texts, TARGET, perturb_radius=0.05, n_perturb_samples=3)
    assert relative_error(found, expected) < 1e-5


@every_family
def test_sensitivity_grows_with_the_radius_and_is_0_where_nothing_moves(family: str) -> None:
    model = double(family)
    texts = encoded(model, TEXTS[:2])
    small, large = (
        sensitivity_max(SIG(), model, texts, TARGET[:2], perturb_radius=radius, n_perturb_samples=2)
        for radius in (0.001, 0.1)
    )
    assert (small > 0).all()
    assert (small < large).all()
    assert (sensitivity_max(Random(), model, texts, TARGET[:2], n_perturb_samples=2) == 0).all()


def test_sensitivity_of_a_text_does_not_depend_on_its_company_also_when_tokens_are_deleted() -> None:
    model = double("bert")
    texts = encoded(model)
    for method in (LeaveOneOut(), GreedyDeletion()):
        together = sensitivity_max(method, model, texts, TARGET, perturb_radius=0.2, n_perturb_samples=2)
        alone = sensitivity_max(method, model, texts[1:2], TARGET[1:2], perturb_radius=0.2, n_perturb_samples=2)
        assert together[1].item() == pytest.approx(alone.item(), rel=1e-4)
    assert sensitivity_max(SIG(), model, [], TARGET[:0]).shape == (0,)
