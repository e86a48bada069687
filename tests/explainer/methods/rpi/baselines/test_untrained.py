"""Baselines without training against their definitions."""

import math

import pytest
import torch

from explainer.methods.rpi.baselines.untrained import AllReference, Gaussian, Zero
from tests.explainer.tools import batch_of, relative_error, state_of
from tests.families import TEXTS, explained


@pytest.mark.parametrize("family", ["bert", "llama", "mistral"])
def test_gaussian_baselines_have_the_diffusion_s_moments_where_attention_may_be(family: str) -> None:
    model = explained(family)
    state = state_of(model, batch_of(model))
    kept = math.prod(1 - (1e-4 + (0.02 - 1e-4) * t / 499) for t in range(500))
    samples = torch.stack([Gaussian()(state, sample, 0) for sample in range(40)])
    valid = state.valid[:, :, None].expand_as(state.attention)
    noise = ((samples - math.sqrt(kept) * state.attention) / math.sqrt(1 - kept))[:, valid]
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    assert torch.equal(samples[:, ~valid], state.attention[~valid].expand(40, -1))
    assert not torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[1], Gaussian()(state, 0, 1))


def test_all_reference_is_the_attention_of_the_replaced_text() -> None:
    model = explained("bert")
    state = state_of(model, batch_of(model))
    baseline = AllReference()(state, 0, 0)
    replaced = model.collate(model.encode([" ".join(["[MASK]"] * text.n_scorable) for text in model.encode(TEXTS)]))
    expected = state_of(model, replaced).attention
    assert relative_error(baseline, expected) < 1e-6
    assert torch.allclose(baseline.sum(dim=-1), torch.ones(()), atol=1e-5)


def test_the_zero_baseline_lets_nothing_through_between_real_tokens() -> None:
    model = explained("llama")
    state = state_of(model, batch_of(model))
    baseline = Zero()(state, 0, 0)
    valid = state.valid[:, :, None].expand_as(baseline)
    assert (baseline[valid] == 0).all()
    assert torch.equal(baseline[~valid], state.attention[~valid])
