"""The attention recorded is the model's, and scores are read where the task reads the answer."""

import pytest
import torch

from explainer.methods.attention.weights import (
    attention_weights,
    identity_part,
    rollout,
    scores_read,
    weights_and_gradients,
)
from tests.explainer.tools import batch_of, double, predicted
from tests.families import FAMILIES, TEXTS


@pytest.mark.parametrize("family", FAMILIES)
def test_every_attention_is_recorded_and_its_rows_sum_to_1(family: str) -> None:
    model = double(family)
    batch = batch_of(model)
    weights = attention_weights(model, batch)
    assert len(weights) == (6 if family == "t5" else 2)
    real = batch.attention_mask.bool()
    for layer in weights:
        assert torch.allclose(layer.sum(dim=-1).transpose(1, 2)[real], torch.ones(()).to(layer), atol=1e-5)
    again, gradients = weights_and_gradients(model, batch, predicted(model, batch))
    for one, other, gradient in zip(weights, again, gradients, strict=True):
        assert torch.allclose(one, other)
        assert gradient.shape == one.shape


def test_a_token_s_two_readings_by_an_encoder_decoder_are_summed() -> None:
    """The decoder reads the text shifted right by one: its position j + 1 holds token j."""
    model = double("t5")
    batch = batch_of(model, ["the bad film"])  # 4 tokens, the end token last and read
    encoder, decoder = torch.zeros(2, 1, 4, 4).double()
    encoder[0, 3] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    decoder[0, 3] = torch.tensor([100.0, 10.0, 20.0, 30.0])
    assert scores_read(model, batch, encoder, decoder).tolist() == [[11.0, 22.0, 33.0, 0.0]]


def test_a_left_padded_batch_is_read_in_its_own_columns() -> None:
    model = double("bert")
    right, left = (batch_of(model, TEXTS[:2], side) for side in ("right", "left"))
    seq = right.input_ids.shape[1]
    attention = torch.arange(2.0 * seq * seq).view(2, seq, seq)
    scores = (batch.split(scores_read(model, batch, attention)) for batch in (right, left))
    for one, other in zip(*scores, strict=True):
        assert torch.equal(one, other)


def test_the_identity_part_is_what_no_attention_contributed_to() -> None:
    """Diagonal attention: the identities are 1/2 times 1/2 of the first row, and 1/4 times 1 of the second."""
    weights = [torch.diag(torch.tensor(values, dtype=torch.float64))[None] for values in ([1.0, 3.0], [1.0, 0.0])]
    rolled, _ = rollout(weights, 2)
    assert torch.allclose(rolled, torch.eye(2).double())
    assert torch.allclose(identity_part(weights, 2), torch.diag(torch.tensor([0.25, 0.25], dtype=torch.float64)))
