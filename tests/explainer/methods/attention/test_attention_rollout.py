"""Attention rollout against the product written out, on encoders, decoders and an encoder-decoder."""

import pytest
import torch

from explainer.explained import Target
from explainer.methods import AttentionRollout
from explainer.methods.attention.weights import attention_weights, rollout
from tests.explainer.tools import batch_of, deberta, double, predicted, relative_error
from tests.families import TEXTS


@pytest.mark.parametrize(("family", "row"), [("bert", 0), ("gpt2", -1), ("llama", -1)])
def test_scores_are_the_paper_s_product_read_at_the_pooled_row(family: str, row: int) -> None:
    model = double(family)
    batch = batch_of(model, TEXTS[:1])
    product = torch.eye(batch.input_ids.shape[1], dtype=torch.float64)
    for weights in attention_weights(model, batch):
        product = (weights[0].mean(dim=0).double() + torch.eye(len(product))) / 2 @ product
    expected = product[row].masked_fill(~batch.scorable[0], 0.0)
    assert relative_error(AttentionRollout().scores(model, batch, predicted(model, batch))[0], expected) < 1e-6


def test_every_position_of_a_decoder_distributes_exactly_1_over_both_readings_of_the_text() -> None:
    model = double("t5")
    batch = batch_of(model, TEXTS[:1])
    means = [weights.mean(dim=1) for weights in attention_weights(model, batch)]
    to_encoder, to_decoder = rollout(means, len(model.layers))
    assert to_decoder is not None
    assert torch.allclose(to_encoder.sum(dim=-1) + to_decoder.sum(dim=-1), torch.ones(1, len(to_encoder[0])).double())
    assert (to_decoder.triu(1) == 0).all()
    assert (to_encoder > 0).all()


def test_the_decoder_reaches_the_encoder_s_rollout_through_each_cross_attention() -> None:
    """By hand: half of a row goes on, half is the cross-attention's mixture of the encoder's rows."""
    model = double("t5")
    means = [weights[:1].mean(dim=1).double() for weights in attention_weights(model, batch_of(model, TEXTS[:1]))]
    first, second, own_1, cross_1, own_2, cross_2 = (weights[0] for weights in means)
    eye = torch.eye(len(first), dtype=torch.float64)
    encoder = (second + eye) / 2 @ ((first + eye) / 2)
    block_1 = cross_1 @ encoder / 2
    block_2 = ((own_2 + eye) / 2 @ block_1 + cross_2 @ encoder) / 2
    to_encoder, to_decoder = rollout(means, 2)
    assert to_decoder is not None
    assert torch.allclose(to_encoder[0], block_2)
    assert torch.allclose(to_decoder[0], (own_2 + eye) / 4 @ ((own_1 + eye) / 4))


def test_the_target_does_not_matter() -> None:
    model = double("bert")
    batch = batch_of(model)
    scores = [AttentionRollout().scores(model, batch, Target.of([c] * len(TEXTS))) for c in (0, 1)]
    assert torch.equal(*scores)


def test_a_model_off_the_attention_interface_is_refused_with_the_way_out() -> None:
    model = deberta()
    with pytest.raises(ValueError, match=r"DebertaV2ForSequenceClassification.*`leave_one_out`"):
        AttentionRollout().scores(model, batch_of(model), Target.of([0] * len(TEXTS)))
