"""Ablated responses as training data: spans, centred effects, and what is left out."""

from pathlib import Path

import pytest
import torch

from explainer.explained import ExplainedResponse, explain_response
from explainer.faithfulness.responses import AblationKind, Ablations, ablations
from lightning_modules.data.responses import LEARNED, AblatedResponses, ablated_responses, own_responses, with_spans
from tests.explainer.explained.test_responses import MESSAGES, model


def asked() -> list[ExplainedResponse]:
    return [
        explain_response(model("llama"), MESSAGES, " good fun and so", sources="word", score="log_prob"),
        explain_response(model("llama"), MESSAGES[1:], " good fun", sources="word", score="log_prob"),
    ]


def additive(responses: list[ExplainedResponse], weights: list[torch.Tensor]) -> AblatedResponses:
    """Responses whose log-probability is the sum of the kept sources' weights, and a constant of each kind."""
    items = []
    for one, measured, weight in zip(responses, ablations(model("llama"), responses, n_masks=4), weights, strict=True):
        values = measured.kept.double() @ weight.double() + 10.0 * measured.kinds
        n = len(one.target_ids)
        items.append(Ablations(measured.kept, measured.kinds, (values / n)[:, None].expand(-1, n).float()))
    return AblatedResponses(model("llama"), responses, items)


def test_a_batch_is_centred_within_each_kind_and_padded() -> None:
    responses = asked()
    weights = [torch.randn(len(one.sources)) for one in responses]
    batch = additive(responses, weights).batch([0, 1])
    assert len(batch) == 2
    for row, (one, weight) in enumerate(zip(responses, weights, strict=True)):
        n, real = len(one.sources), batch.kinds[row] >= 0
        assert int(real.sum()) == n + 2 * 4
        assert not batch.effects[row][~real].any()
        assert not batch.design[row][~real].any()
        for kind in LEARNED:
            same = batch.kinds[row] == kind
            assert torch.allclose(batch.effects[row][same].mean(), torch.tensor(0.0), atol=1e-4)
            assert torch.allclose(batch.design[row][same][:, :n] @ weight, batch.effects[row][same], atol=1e-4)
        assert not batch.design[row][:, n:].any()


def test_the_score_of_a_source_is_the_sum_over_its_tokens() -> None:
    responses = asked()
    batch = additive(responses, [torch.ones(len(one.sources)) for one in responses]).batch([0, 1])
    scores = torch.randn(batch.tokens.input_ids.shape)
    for row, own, one in zip(batch.source_scores(scores), scores, responses, strict=True):
        expected = one.source_scores(own[: len(one.text)])
        assert torch.allclose(row[: len(one.sources)], torch.tensor(expected), atol=1e-5)
        assert not row[len(one.sources) :].any()


def test_spans_have_the_effects_on_their_own_tokens() -> None:
    responses = asked()
    measured = ablations(model("llama"), responses, n_masks=2)
    items = with_spans(model("llama"), responses, measured, spans=3, seed=0)
    assert len(items) == len(items.lengths) == 8
    for k in range(2, 8):
        part, whole = items.responses[k], measured[k % 2]
        assert part.target_ids == responses[k % 2].response_ids[slice(*part.span)]
        assert torch.equal(items.ablations[k].log_probabilities, whole.log_probabilities[:, slice(*part.span)])
        fresh = ablations(model("llama"), [part], n_masks=2)[0].log_probabilities[0]
        assert torch.allclose(items.ablations[k].log_probabilities[0], fresh, atol=1e-4)
    again = with_spans(model("llama"), responses, measured, spans=3, seed=0)
    assert [one.span for one in items.responses] == [one.span for one in again.responses]


def test_prompts_of_one_source_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMORTEX_CACHE", str(tmp_path))
    texts = ["good", "the film was good", "fun and dull"]
    kept = own_responses(model("llama"), texts, 2, "word")
    assert [one.prompt[0]["content"] for one in kept] == texts[1:]  # type: ignore[index]
    assert all(0 < len(one.response_ids) <= 2 for one in kept)
    settings = {"new_tokens": 2, "level": "word", "operator": "delete", "n_masks": 2, "spans": 1, "seed": 0}
    items = ablated_responses(model("llama"), texts, **settings)
    assert len(items) == 4
    assert items.ablations[0].kinds[0] == AblationKind.WHOLE
    with pytest.raises(ValueError, match=r"None of the 1 texts .* `sources: word`"):
        ablated_responses(model("llama"), texts[:1], **settings)
