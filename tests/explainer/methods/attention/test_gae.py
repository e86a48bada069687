"""GAE against the paper's update rules, entry by entry, with gradients by finite differences."""

from typing import Any

import pytest
import torch
from torch import Tensor

from explainer.explained import ExplainedModel, Target, TokenBatch, edit_attention_weights
from explainer.methods import GAE
from explainer.methods.attention.gae import relevance
from explainer.methods.attention.weights import attention_weights
from tests.explainer.tools import batch_of, deberta, double, logits_of, relative_error
from tests.families import TEXTS


def slopes(model: ExplainedModel, batch: TokenBatch, layer: int, target: int) -> Tensor:
    """Central differences of the target's logit in every entry (heads, queries, keys) of one layer's attention."""
    shape = attention_weights(model, batch)[layer][0].shape
    differences = torch.zeros(shape, dtype=torch.float64)
    for entry in torch.cartesian_prod(*(torch.arange(n) for n in shape)):
        values = [logits_with(model, batch, layer, tuple(entry.tolist()), step)[target] for step in (1e-4, -1e-4)]
        differences[tuple(entry)] = (values[0] - values[1]) / 2e-4
    return differences


def logits_with(model: ExplainedModel, batch: TokenBatch, layer: int, entry: tuple[int, ...], step: float) -> Tensor:
    calls = iter(range(100))

    def nudge(module: Any, weights: Tensor) -> Tensor:
        if next(calls) != layer:
            return weights
        weights = weights.double().clone()
        weights[(0, *entry)] += step
        return weights

    with torch.no_grad(), edit_attention_weights(model.model, nudge):
        return logits_of(model, batch)[0]


def test_scores_are_the_paper_s_updates_with_gradients_by_finite_differences() -> None:
    model = double("bert")
    batch = batch_of(model, ["the bad film"])
    r = torch.eye(batch.input_ids.shape[1], dtype=torch.float64)
    for layer, weights in enumerate(attention_weights(model, batch)):
        weighted = torch.zeros_like(r)
        for head, slope in zip(weights[0], slopes(model, batch, layer, 1), strict=True):
            weighted += torch.relu(slope * head) / len(weights[0])
        r = r + weighted @ r
    expected = r[0].masked_fill(~batch.scorable[0], 0.0)
    assert relative_error(GAE().scores(model, batch, Target.of([1]))[0], expected) < 1e-3


def test_an_encoder_decoder_follows_equations_6_to_10_by_hand() -> None:
    torch.manual_seed(0)
    encoder, own, cross = (torch.rand(1, *shape, dtype=torch.float64) for shape in ((3, 3), (2, 2), (2, 3)))
    across, within = relevance([encoder, own, cross], 1)
    assert within is not None
    assert torch.allclose(within, own)  # R_decoder = I + A', read without its identity

    def normalised(added: Tensor) -> Tensor:
        return torch.stack([row / row.sum() for row in added]) + torch.eye(len(added))

    expected = torch.zeros(2, 3, dtype=torch.float64)
    left, right = normalised(own[0]), normalised(encoder[0])
    for i in range(2):
        for j in range(3):
            expected[i, j] = sum(left[k, i] * cross[0, k, m] * right[m, j] for k in range(2) for m in range(3))
    assert torch.allclose(across[0], expected)


def test_scores_are_never_negative() -> None:
    model = double("llama")
    batch = batch_of(model)
    assert (GAE().scores(model, batch, Target.of([0] * len(TEXTS))) >= 0).all()


def test_a_model_off_the_attention_interface_is_refused_with_the_way_out() -> None:
    model = deberta()
    with pytest.raises(ValueError, match=r"DebertaV2ForSequenceClassification.*`leave_one_out`"):
        GAE().scores(model, batch_of(model), Target.of([0] * len(TEXTS)))
