"""Integrated gradients: completeness, a captum call of its own, and independence of the token budget."""

import copy

import pytest
import torch
from captum.attr import LayerIntegratedGradients
from torch import Tensor

from explainer.explained import Target
from explainer.methods import IntegratedGradients
from tests.explainer.tools import batch_of, deberta, double, encoded, relative_error
from tests.families import FAMILIES, TEXTS

TARGET = Target.of([0, 1, 2, 0])
TARGETS = [TARGET, Target.of([0, 1, 2, 0], [1, 2, 0, 2], "log_prob")]


@pytest.mark.parametrize("target", TARGETS, ids=["plain", "contrast"])
@pytest.mark.parametrize("family", FAMILIES)
def test_integrated_gradients_are_complete(family: str, target: Target) -> None:
    """Their sum is the objective less that of the text of baseline tokens."""
    model = double(family)
    texts = encoded(model)
    empty = [text.tokens.replaced(text.scorable, model.baseline_token_id) for text in texts]
    objective = model.evaluate([*(text.tokens for text in texts), *empty], target.repeat(2)).objective
    attributions = IntegratedGradients(n_steps=64).attribute(model, texts, target)
    total = torch.stack([scores.sum() for scores in attributions.scores])
    assert relative_error(total, objective[:4] - objective[4:]) < 1e-3


def test_integrated_gradients_do_not_depend_on_the_token_budget() -> None:
    model = copy.copy(double("bert"))
    batch = batch_of(model)
    expected = IntegratedGradients(n_steps=5).scores(model, batch, TARGET)
    for budget in (1, 200):
        model.batch_tokens = budget
        assert relative_error(IntegratedGradients(n_steps=5).scores(model, batch, TARGET), expected) < 1e-5


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
        target=TARGET.classes[:2],
        additional_forward_args=(batch.attention_mask,),
        n_steps=20,
        method="gausslegendre",
    )
    scores = IntegratedGradients(n_steps=20).scores(model, batch, TARGET[:2])
    assert relative_error(scores, parts.sum(dim=-1)) < 1e-6


def test_they_work_on_a_model_off_the_attention_interface() -> None:
    texts = encoded(deberta())
    attributions = IntegratedGradients(n_steps=2).attribute(deberta(), texts, deberta().predicted(texts))
    for text, scores in zip(texts, attributions.scores, strict=True):
        assert scores.isfinite().all()
        assert (scores[text.scorable] != 0).any()


def test_the_cost_is_three_passes_per_point() -> None:
    assert IntegratedGradients(n_steps=7).forward_equivalents(9) == 21
