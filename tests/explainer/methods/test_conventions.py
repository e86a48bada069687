"""Every method on families that treat layers, attention, positions and padding in ways of their own."""

import re

import pytest
import torch

from explainer import METHODS, load_method
from explainer.explained import ExplainedModel
from tests.sequence_classifiers import build

TEXTS = ["bad film", "this film was not good"]

REFUSALS = re.compile("not on transformers' attention|do not have one|are no list|has no rule|experts|sum to")


@pytest.mark.parametrize(
    "model_type", ["albert", "big_bird", "ctrl", "fnet", "funnel", "jamba", "longformer", "t5gemma2", "xlnet", "xmod"]
)
def test_a_method_scores_a_family_or_refuses_it_with_a_reason(model_type: str) -> None:
    served = ExplainedModel(*build(model_type))
    encoded = served.encode(TEXTS)
    target, scoring, reasons = served.predicted(encoded), [], dict[str, str]()
    for name in METHODS:
        method = load_method(name)
        try:
            scores = method.attribute(served, encoded, target).scores
        except ValueError as error:
            reasons[name] = str(error)
            continue
        scoring.append(name)
        for i, text in enumerate(encoded):
            alone = method.attribute(served, [text], target[i : i + 1]).scores[0]
            torch.testing.assert_close(scores[i], alone, atol=1e-3, rtol=1e-2)
    assert {"attn_lrp", "sig", "leave_one_out", "input_x_gradient"} - set(scoring) <= {"attn_lrp"}
    for name, reason in reasons.items():
        assert REFUSALS.search(reason), (name, reason)


def test_pairs_and_single_texts_of_an_encoder_decoder_are_scored_together() -> None:
    served = ExplainedModel(*build("t5"))
    encoded = served.encode(["this film was good", "the plot"], ["it is bad", None])
    method, target = load_method("attn_lrp"), served.predicted(encoded)
    scores = method.attribute(served, encoded, target).scores
    for i, text in enumerate(encoded):
        alone = method.attribute(served, [text], target[i : i + 1]).scores[0]
        torch.testing.assert_close(scores[i], alone, atol=1e-5, rtol=1e-4)
