"""Mean attention against transformers' own attention weights, at the positions where the answer is read."""

import pytest
import torch

from explainer.explained import Target, explain_response
from explainer.methods import MeanAttention
from explainer.methods.responses import attribute_responses
from tests.explainer.explained.test_responses import model as language_model
from tests.explainer.tools import batch_of, double, relative_error
from tests.families import TEXTS


@pytest.mark.parametrize(("family", "row"), [("bert", 0), ("llama", -1)])
def test_of_a_classifier_it_is_the_mean_of_the_rows_that_the_head_reads(family: str, row: int) -> None:
    model = double(family)
    batch = batch_of(model, TEXTS[:1])
    model.model.set_attn_implementation("eager")
    weights = model.model(input_ids=batch.input_ids, output_attentions=True).attentions
    model.model.set_attn_implementation("sdpa")
    expected = torch.stack(weights)[:, 0, :, row].mean(dim=(0, 1)).masked_fill(~batch.scorable[0], 0.0)
    assert relative_error(MeanAttention().scores(model, batch, Target.of([0]))[0], expected) < 1e-6


def test_of_a_response_it_is_the_mean_of_the_rows_before_the_target_s_tokens() -> None:
    model = language_model("llama")
    response = explain_response(model, "the film was good .", " the plot was dull", token=(1, 3))
    ids, first = response.text.tokens.input_ids, len(response.text) - len(response.response_ids)
    model.model.set_attn_implementation("eager")
    weights = torch.stack(model.model(input_ids=ids[None], output_attentions=True).attentions)[:, 0]
    model.model.set_attn_implementation("sdpa")
    rows = weights.mean(dim=(0, 1))[[first, first + 1]].mean(dim=0)
    (scores,) = attribute_responses(MeanAttention(), model, [response])
    expected = [float(rows[list(source.tokens)].sum()) for source in response.sources]
    assert scores == pytest.approx(expected, rel=1e-5)


def test_of_an_encoder_decoder_it_is_the_attention_of_its_decoder_and_each_row_has_1_per_reading() -> None:
    model = double("t5")
    batch = batch_of(model, TEXTS[:1])
    batch.scorable[:] = True
    scores = MeanAttention().scores(model, batch, Target.of([0]))
    # Cross-attention sums to 1; of the decoder's own, the start token, which is no token of the text, takes a share.
    assert 1 < float(scores.sum()) < 2
