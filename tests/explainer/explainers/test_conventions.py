"""Trained explainers on families that treat positions, padding and causality in ways of their own."""

import pytest
import torch

from explainer.explained import ExplainedModel
from explainer.explainers import AbstractMaskExplainer, LoraExplainer, SeparateExplainer, SideExplainer
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import predictions
from tests.sequence_classifiers import build

BOTH_WAYS = {
    **dict.fromkeys(("bert", "llama", "gpt2", "ctrl", "xlnet", "t5", "big_bird", "longformer"), True),
    **dict.fromkeys(("bloom", "falcon", "gptj", "nemotron", "stablelm", "funnel", "openai-gpt"), False),
}


@pytest.mark.parametrize(("model_type", "both"), BOTH_WAYS.items())
def test_a_backbone_that_cannot_read_both_ways_is_refused_as_an_explainer(model_type: str, both: bool) -> None:
    served = ExplainedModel(*build(model_type))
    assert served.reads_both_ways == both
    if not both:
        with pytest.raises(ValueError, match="gives no state per token that knows what follows it"):
            SeparateExplainer(served)


def test_a_backbone_that_rounds_too_coarsely_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    served = ExplainedModel(*build("llama"))
    monkeypatch.setattr(ExplainedModel, "reads_both_ways", False)  # as a deep model's states in half precision
    with pytest.raises(
        ValueError, match=r"\(it is causal for good, or pools tokens\), so its backbone .* take `side`\."
    ):
        SeparateExplainer(served)
    served.model.bfloat16()
    with pytest.raises(ValueError, match=r"too coarsely in half precision\).* take `dtype` float32, or `side`\."):
        SeparateExplainer(served)


@pytest.mark.parametrize("kind", [SideExplainer, LoraExplainer, SeparateExplainer])
@pytest.mark.parametrize("model_type", ["bert", "roberta", "bart", "xlnet", "fnet", "big_bird", "convbert", "phimoe"])
def test_a_trained_explainer_serves_families_of_every_convention(
    model_type: str, kind: type[AbstractMaskExplainer]
) -> None:
    served = ExplainedModel(*build(model_type))
    limit = served.text.max_tokens or 30
    encoded = served.encode(["bad film", "this film was not good", " ".join(["good"] * (limit - 2))])
    explainer = kind(served).eval()
    with torch.no_grad():
        for parameter in explainer.trained(served).values():
            parameter.normal_(0.0, 0.2)
    method, target = Amortized(explainer), served.predicted(encoded)
    readout, [scored] = method.explain(served, encoded, [target])
    torch.testing.assert_close(readout.logits[:, 0], predictions(served, [text.tokens for text in encoded]))
    for i, text in enumerate(encoded):
        alone = method.attribute(served, [text], target[i : i + 1]).scores[0]
        torch.testing.assert_close(scored.scores[i], alone, atol=2e-3, rtol=1e-2)
