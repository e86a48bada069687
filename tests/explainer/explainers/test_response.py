"""Explainers of responses: attention of the response's rows, weighed by head and gated by states."""

from pathlib import Path
from typing import Any

import pytest
import torch

from explainer.explained import ExplainedResponse, Target, explain_response, responses_target
from explainer.explainers import AttentionExplainer, ResponseExplainer
from explainer.explainers.folder import load_onto, save_folder
from explainer.explainers.response import AbstractResponseExplainer, read_response
from explainer.methods.responses import attribute_responses, explain_responses
from explainer.methods.trained.amortized import Amortized
from tests.explainer.explained.test_responses import MESSAGES, every_family, model
from tests.families import explained

TINY: dict[type[AbstractResponseExplainer], dict[str, Any]] = {
    AttentionExplainer: {},
    ResponseExplainer: {"width": 8, "depth": 1, "rank": 2, "heads": 2},
}
every_kind = pytest.mark.parametrize("kind", TINY)


def built(
    kind: type[AbstractResponseExplainer], family: str = "llama", trained: bool = True
) -> AbstractResponseExplainer:
    """An explainer with weights as after a training, or as it begins one."""
    torch.manual_seed(0)
    explainer = kind(model(family), **TINY[kind]).eval()
    if trained:
        with torch.no_grad():
            for parameter in explainer.parameters():
                parameter.add_(torch.randn_like(parameter))
    return explainer


def asked(family: str = "llama", **options: Any) -> list[ExplainedResponse]:
    return [
        explain_response(model(family), MESSAGES, " good fun and so", sources="word", **options),
        explain_response(model(family), "the film was", " good fun", sources="word"),
    ]


@every_family
@every_kind
def test_scores_depend_neither_on_the_batch_nor_on_the_side_of_the_padding(
    kind: type[AbstractResponseExplainer], family: str
) -> None:
    explainer, texts = built(kind, family), [one.text for one in asked(family)]
    target = responses_target(asked(family))
    with torch.no_grad():
        alone = explainer(model(family), model(family).collate(texts[:1]), target[:1])[0]
        for side in ("left", "right"):
            batch = model(family).collate(texts, side=side)
            row = batch.split(explainer(model(family), batch, target))[0]
            assert torch.allclose(row, alone, atol=1e-5)


@every_kind
def test_only_the_contents_of_messages_are_scored(kind: type[AbstractResponseExplainer]) -> None:
    one = asked()[0]
    with torch.no_grad():
        scores = built(kind)(model("llama"), model("llama").collate([one.text]), one.target)[0]
    assert bool((scores[~one.text.scorable] == 0).all())
    assert bool((scores[one.text.scorable] != 0).all())


def test_training_begins_at_the_mean_attention_of_all_heads() -> None:
    one = asked()[0]
    batch = model("llama").collate([one.text])
    attention = read_response(model("llama"), batch)[1].attention
    with torch.no_grad():
        for kind in TINY:
            scores = built(kind, trained=False)(model("llama"), batch, one.target)[0]
            expected = attention[0].mean(dim=0).masked_fill(~one.text.scorable, 0.0)
            assert torch.allclose(scores, expected, atol=1e-6)


@every_kind
def test_another_span_has_other_scores(kind: type[AbstractResponseExplainer]) -> None:
    explainer, one = built(kind), asked()[0]
    scores = [attribute_responses(Amortized(explainer), model("llama"), [part])[0] for part in one.each_token()]
    assert len({tuple(row) for row in scores}) == len(one.target_ids)


def test_the_gates_know_which_token_is_explained() -> None:
    one = asked()[0]
    batch, other = model("llama").collate([one.text]), Target(one.target.choices.flip(1))
    with torch.no_grad():
        explainer = built(ResponseExplainer)
        scores = [explainer(model("llama"), batch, target) for target in (one.target, other)]
        assert not torch.allclose(*scores)
        linear = built(AttentionExplainer)
        assert torch.equal(*[linear(model("llama"), batch, target) for target in (one.target, other)])


@every_kind
def test_answer_and_scores_come_from_one_pass(
    kind: type[AbstractResponseExplainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    lm, own = model("llama").model, model("llama").model.forward
    monkeypatch.setattr(lm, "forward", lambda *args, **kwargs: calls.append(1) or own(*args, **kwargs))
    one = asked()[0]
    readout, score = built(kind).predict_and_attribute(model("llama"), model("llama").collate([one.text]))
    score(one.target)
    assert len(calls) == 1
    assert torch.equal(readout.logits, model("llama")(model("llama").collate([one.text])).logits)


@every_kind
def test_a_saved_explainer_is_loaded_onto_the_model_that_is_there(
    kind: type[AbstractResponseExplainer], tmp_path: Path
) -> None:
    explainer = built(kind)
    save_folder(model("llama"), explainer, tmp_path)
    loaded = load_onto(str(tmp_path), model("llama"))
    assert type(loaded) is kind
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), explainer.parameters(), strict=True))
    assert '"labels": []' in (tmp_path / "config.json").read_text()


@every_kind
def test_a_foil_and_a_classifier_are_refused(kind: type[AbstractResponseExplainer]) -> None:
    one = asked()[0]
    target = Target(one.target.choices, one.target.choices.flip(1))
    with pytest.raises(
        ValueError, match=r"A response's foil is another sequence, and the scores for two have no common"
    ):
        built(kind)(model("llama"), model("llama").collate([one.text]), target)
    against = explain_response(model("llama"), "the film was", " good fun", foil=" so", sources="word")
    for ask in (attribute_responses, explain_responses):
        with pytest.raises(ValueError, match="`foil` needs scores in units, and a trained explainer's compare"):
            ask(Amortized(built(kind)), model("llama"), [against])
    with pytest.raises(ValueError, match=rf"The {kind.kind} explainer explains responses, and the task of `explained`"):
        kind(explained("bert"))
