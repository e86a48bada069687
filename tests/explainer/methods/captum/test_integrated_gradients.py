"""Integrated gradients: completeness, a captum call of its own, and independence of the token budget."""

import copy

import pytest
import torch
from captum.attr import LayerIntegratedGradients
from torch import Tensor

from explainer.methods import IntegratedGradientsMethod
from explainer.methods.base import logit_of
from tests.explainer.tools import batch_of, deberta, double, predicted, relative_error
from tests.families import FAMILIES, TEXTS

TARGET = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_integrated_gradients_are_complete(family: str) -> None:
    """Their sum is the logit less that of the text of baseline tokens."""
    model = double(family)
    batch = batch_of(model)
    rows = [
        row.replaced(scorable, model.baseline_token_id)
        for row, scorable in zip(batch.rows(), batch.split(batch.scorable), strict=True)
    ]
    expected = logit_of(model(batch) - model.predict(rows), TARGET)
    scores = IntegratedGradientsMethod(n_steps=64)(model, batch, TARGET)
    assert relative_error(scores.sum(dim=1), expected) < 1e-3


def test_integrated_gradients_do_not_depend_on_the_token_budget() -> None:
    model = copy.copy(double("bert"))
    batch = batch_of(model)
    expected = IntegratedGradientsMethod(n_steps=5)(model, batch, TARGET)
    for budget in (1, 200):
        model.batch_tokens = budget
        assert relative_error(IntegratedGradientsMethod(n_steps=5)(model, batch, TARGET), expected) < 1e-5


def test_integrated_gradients_are_those_of_captum_on_the_embedding_layer() -> None:
    """A captum call of its own: LayerIntegratedGradients on BERT's word embeddings, ids and masked ids."""
    model = double("bert")
    batch = batch_of(model, TEXTS[:2])

    def logits(ids: Tensor, mask: Tensor) -> Tensor:
        return model.model(input_ids=ids, attention_mask=mask).logits

    masked = batch.input_ids.masked_fill(batch.scorable, model.tokenizer.mask_token_id)
    parts = LayerIntegratedGradients(logits, model.model.bert.embeddings.word_embeddings).attribute(
        batch.input_ids,
        masked,
        target=TARGET[:2],
        additional_forward_args=(batch.attention_mask,),
        n_steps=20,
        method="gausslegendre",
    )
    scores = IntegratedGradientsMethod(n_steps=20)(model, batch, TARGET[:2])
    assert relative_error(scores, parts.sum(dim=-1)) < 1e-6


def test_they_work_on_a_model_off_the_attention_interface() -> None:
    batch = batch_of(deberta())
    scores = IntegratedGradientsMethod(n_steps=2)(deberta(), batch, predicted(deberta(), batch))
    assert scores.isfinite().all()
    assert (scores[batch.scorable] != 0).any()


def test_the_cost_is_three_passes_a_point() -> None:
    assert IntegratedGradientsMethod(n_steps=7).forward_equivalents(9) == 21
