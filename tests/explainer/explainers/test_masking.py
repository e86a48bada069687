"""Blending with the baseline embedding: at its ends, half way, and by its gradients."""

import pytest
import torch

from explainer.explained import ExplainedModel
from explainer.explainers.masking import blend
from tests.explainer.tools import batch_of, double, encoded, relative_error
from tests.families import FAMILIES, explained


def all_baseline(model: ExplainedModel) -> torch.Tensor:
    """The logits of the texts with every scorable token replaced by the baseline token."""
    return model.predict([t.tokens.replaced(t.scorable, model.baseline_token_id) for t in encoded(model)]).logits


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_of_ones_gives_the_original_logits(family: str, side: str) -> None:
    model = double(family)
    batch = batch_of(model, side=side)
    edit = blend(batch, torch.ones(batch.input_ids.shape), model.baseline_embedding())
    assert relative_error(model(batch, edit=edit).logits, model(batch).logits) < 1e-6


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_of_zeros_gives_the_logits_of_baseline_tokens(family: str, side: str) -> None:
    model = double(family)
    batch = batch_of(model, side=side)
    edit = blend(batch, torch.zeros(batch.input_ids.shape), model.baseline_embedding())
    assert relative_error(model(batch, edit=edit).logits, all_baseline(model)) < 1e-6


def test_amounts_at_specials_and_padding_change_nothing() -> None:
    model = explained("bert")
    batch = batch_of(model)
    amounts = torch.rand(batch.input_ids.shape)
    other = torch.where(batch.scorable, amounts, torch.rand(amounts.shape))
    logits = [model(batch, edit=blend(batch, a, model.baseline_embedding())).logits for a in (amounts, other)]
    assert torch.equal(*logits)


def test_half_a_mask_is_half_way() -> None:
    model = explained("bert")
    batch = batch_of(model)
    words, baseline = model.embedding(batch.input_ids), model.baseline_embedding()
    blended = blend(batch, torch.full(batch.input_ids.shape, 0.5), baseline)(words)
    expected = torch.where(batch.scorable[..., None], (words + baseline) / 2, words)
    assert torch.allclose(blended, expected, atol=1e-6)


def test_gradients_reach_the_amounts_of_scorable_tokens() -> None:
    model = explained("llama")
    batch = batch_of(model)
    amounts = torch.full(batch.input_ids.shape, 0.5, requires_grad=True)
    model(batch, edit=blend(batch, amounts, model.baseline_embedding())).logits.pow(2).sum().backward()
    assert amounts.grad is not None
    assert ((amounts.grad != 0) == batch.scorable).all()
