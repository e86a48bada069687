"""CP-LRP against its definition: the gradient with constant attention weights, under the rules for all else."""

import pytest
import torch
from torch import Tensor

from explainer.explained import Target, edit_attention_weights
from explainer.methods import CPLRP, AttnLRP
from tests.explainer.methods.lrp.test_attn_lrp import OneLayerBert, linear, matrix_product, one_layer_bert
from tests.explainer.tools import batch_of, deberta, double, predicted, relative_error
from tests.families import TEXTS


class ConstantAttention(OneLayerBert):
    """The paper's relevance by hand, with all of attention's relevance given to the values."""

    def self_attention(self, x: Tensor):
        output, _ = super().self_attention(x)
        parts = self.attention
        width = parts.attention_head_size
        query, key, value = parts.query(x), parts.key(x), parts.value(x)

        def backward(relevance: Tensor) -> Tensor:
            at = torch.zeros_like(x)
            for start in range(0, x.shape[1], width):
                h = slice(start, start + width)
                weights = (query[:, h] @ key[:, h].T / width**0.5).softmax(dim=-1)
                at[:, h] = 2 * matrix_product(weights, value[:, h], relevance[:, h])[1]
            return linear(x, parts.value.weight, value, at)

        return output, backward


@pytest.mark.parametrize("target", [0, 2])
@pytest.mark.parametrize("text", TEXTS[:3])
def test_scores_are_relevance_propagated_by_hand(text: str, target: int) -> None:
    model = one_layer_bert()
    batch = batch_of(model, [text])
    with torch.no_grad():
        expected = ConstantAttention(model.model, batch.input_ids[0]).word_relevance(target).sum(dim=-1)
    scores = CPLRP().scores(model, batch, Target.of([target]))[0]
    expected_scores = expected.masked_fill(~batch.scorable[0], 0)
    assert torch.allclose(scores.double(), expected_scores, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_constant_attention_weights_change_cp_lrp_s_scores_by_nothing_and_attn_lrp_s_much() -> None:
    """Where attention is given, no relevance reaches query and key, and AttnLRP hands half of it to the values."""
    model = double("bert")
    batch = batch_of(model)
    target = predicted(model, batch)
    with edit_attention_weights(model.model, lambda module, weights: weights.detach().clone()):
        constant = CPLRP().scores(model, batch, target)
        half = AttnLRP().scores(model, batch, target)
    assert relative_error(constant, CPLRP().scores(model, batch, target)) < 1e-5
    assert relative_error(half, constant) > 1e-2


def test_a_model_off_the_attention_interface_is_refused_with_the_way_out() -> None:
    model = deberta()
    with pytest.raises(ValueError, match=r"DebertaV2ForSequenceClassification.*`leave_one_out`"):
        CPLRP().scores(model, batch_of(model), Target.of([0, 0, 0, 0]))
