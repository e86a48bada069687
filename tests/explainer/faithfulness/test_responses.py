"""Faithfulness of responses: what is taken away, against values asked for one by one."""

import math
from typing import Any

import pytest
import torch

from explainer.explained import ExplainedResponse, explain_response
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.responses import (
    RESPONSE_METRICS,
    AblationKind,
    ablations,
    bernoulli_masks,
    datamodel_values,
    equal_size_masks,
    log_probabilities,
    pooled_log_probabilities,
    response_faithfulness,
    responses_faithfulness,
)
from tests.explainer.explained.test_responses import MESSAGES, model


def asked(family: str = "llama", **options: Any) -> ExplainedResponse:
    return explain_response(model(family), MESSAGES, " good fun", **{"sources": "word", **options})


def by_hand(one: ExplainedResponse, away: set[int], family: str = "llama", end: bool = False) -> float:
    """ln p of the response without some of the sources, deleted or replaced by the end token, by transformers alone."""
    positions = {place for source in away for place in one.sources[source].tokens}
    ids = one.text.tokens.input_ids.tolist()
    eos = model(family).tokenizer.eos_token_id
    left = [eos if i in positions else token for i, token in enumerate(ids) if end or i not in positions]
    n = len(one.response_ids)
    with torch.no_grad():
        logits = model(family).model(input_ids=torch.tensor([left])).logits[0].log_softmax(dim=-1)
    return sum(float(logits[len(left) - n + k - 1, token]) for k, token in enumerate(one.response_ids))


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "gemma"])
def test_every_metric_is_that_of_values_asked_for_one_by_one(family: str) -> None:
    one = asked(family)
    n = len(one.sources)
    scores = [float((7 * i) % n) for i in range(n)]
    order = sorted(range(n), key=lambda i: -scores[i])
    whole, nothing = by_hand(one, set(), family), by_hand(one, set(range(n)), family)
    measured = response_faithfulness(model(family), one, scores)
    assert list(measured) == list(RESPONSE_METRICS)
    for k in (1, 3, 5):
        assert measured[f"drop_at_{k}"] == pytest.approx(whole - by_hand(one, set(order[:k]), family), abs=1e-4)
        assert measured[f"gain_at_{k}"] == pytest.approx(by_hand(one, set(order[k:]), family) - nothing, abs=1e-4)
    values = [by_hand(one, set(order[:k]), family, end=True) for k in range(n + 1)]
    fall = [min(max((v - values[-1]) / abs(values[0] - values[-1]), 0), 1) for v in values]
    fall = [min(fall[: i + 1]) for i in range(n + 1)]
    assert measured["rise"] == pytest.approx((sum(fall) - (fall[0] + fall[-1]) / 2) / n, abs=1e-4)
    promised = [1 - sum(scores[i] for i in order[:k]) / sum(scores) for k in range(n + 1)]
    both = [f + abs(f - p) for f, p in zip(fall, promised, strict=True)]
    assert measured["mas"] == pytest.approx((sum(both) - (both[0] + both[-1]) / 2) / n, abs=1e-4)


def test_the_effects_themselves_have_the_highest_lds_and_a_constant_none() -> None:
    one = asked(sources="sentence")
    masks = equal_size_masks(len(one.sources))
    values = log_probabilities(model("llama"), one, masks)
    fitted = torch.linalg.lstsq(masks.double(), values[:, None]).solution[:, 0]
    best = response_faithfulness(model("llama"), one, fitted.tolist())["lds"]
    assert best > response_faithfulness(model("llama"), one, (-fitted).tolist())["lds"]
    assert response_faithfulness(model("llama"), one, [1.0] * len(one.sources))["lds"] == 0


def test_masks_of_equal_size_keep_half_and_differ() -> None:
    masks = equal_size_masks(9, 32)
    assert masks.shape == (32, 9)
    assert (masks.sum(dim=1) == 4).all()
    assert len({tuple(mask) for mask in masks.tolist()}) == 32
    assert torch.equal(masks, equal_size_masks(9, 32))
    assert equal_size_masks(4, 32).shape == (6, 4)  # all there are
    assert equal_size_masks(1).shape == (0, 1)
    assert 0.4 < bernoulli_masks(50, 100).double().mean() < 0.6


@pytest.mark.parametrize("operator", ["delete", "replace", "blank", "hide"])
def test_every_operator_keeps_the_response_and_all_kept_is_the_prompt_itself(operator: Operator) -> None:
    one = asked()
    kept = torch.stack([torch.ones(len(one.sources)).bool(), torch.zeros(len(one.sources)).bool()])
    whole, nothing = log_probabilities(model("llama"), one, kept, operator).tolist()
    assert whole == pytest.approx(by_hand(one, set()), abs=1e-4)
    assert math.isfinite(nothing)
    assert nothing != whole


def test_responses_that_are_measured_together_have_the_values_of_each_alone() -> None:
    explained = model("qwen2")
    responses = [
        explain_response(explained, MESSAGES, " good fun", sources="word", foil=" bad"),
        explain_response(explained, "a film", " dull and bad", sources="message"),
        explain_response(explained, "a film", " dull", sources="word"),
    ]
    masks = [torch.rand(n, len(one.sources)) < 0.5 for one, n in zip(responses, (4, 2, 0), strict=True)]
    together = pooled_log_probabilities(explained, responses, masks)
    for one, kept, values in zip(responses, masks, together, strict=True):
        assert torch.allclose(log_probabilities(explained, one, kept), values, atol=1e-4)


@pytest.mark.parametrize("operator", ["delete", "hide"])
def test_the_faithfulness_of_several_responses_is_that_of_each_with_its_own_masks(operator: Operator) -> None:
    explained = model("llama")
    responses = [
        asked(),
        asked(foil=" bad and so"),
        explain_response(explained, "a film is fun", " dull", sources="word"),
    ]
    scores = [[float((7 * i) % len(one.sources)) for i in range(len(one.sources))] for one in responses]
    options: dict[str, Any] = {"operator": operator, "n_masks": 5}
    together = responses_faithfulness(explained, responses, scores, seeds=[3, 4, 5], **options)
    known = datamodel_values(explained, responses, seeds=[3, 4, 5], **options)
    again = responses_faithfulness(explained, responses, scores, seeds=[3, 4, 5], datamodels=known, **options)
    for i, (one, own) in enumerate(zip(responses, scores, strict=True)):
        alone = response_faithfulness(explained, one, own, seed=3 + i, **options)
        assert together[i] == pytest.approx(alone, abs=1e-4, nan_ok=True)
        assert again[i] == pytest.approx(alone, abs=1e-4, nan_ok=True)
    assert together[0] != response_faithfulness(explained, responses[0], scores[0], seed=9, **options)


def test_ablations_are_the_whole_each_source_less_and_both_kinds_of_masks_token_by_token() -> None:
    one, other = asked(sources="sentence"), asked().with_target(token=0)
    measured, short = ablations(model("llama"), [one, other], n_masks=4)
    n = len(one.sources)
    half = equal_size_masks(n, 4)
    kinds = [AblationKind.WHOLE, *[AblationKind.ONE_LESS] * n, *[AblationKind.HALF] * len(half)]
    assert measured.kinds.tolist() == [*kinds, *[AblationKind.BERNOULLI] * 4]
    free = bernoulli_masks(n, 4)
    assert torch.equal(measured.kept, torch.cat([torch.ones(1, n).bool(), ~torch.eye(n).bool(), half, free]))
    assert torch.equal(short.kept[-4:], bernoulli_masks(len(other.sources), 4, seed=1))
    assert measured.log_probabilities.shape == (len(measured.kept), len(one.response_ids))
    assert short.log_probabilities.shape == (len(short.kept), 1)
    for kept, tokens in zip(measured.kept, measured.log_probabilities, strict=True):
        away = {i for i, stays in enumerate(kept.tolist()) if not stays}
        assert float(tokens.sum()) == pytest.approx(by_hand(one, away), abs=1e-4)


def test_a_foil_is_subtracted() -> None:
    one = asked(foil=" bad and so")
    kept = torch.tensor([[True] * len(one.sources), [False, *[True] * (len(one.sources) - 1)]])
    assert one.foil is not None
    expected = [by_hand(one, away) - by_hand(one.foil, away) for away in (set(), {0})]
    assert log_probabilities(model("llama"), one, kept).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("scores", "message"),
    [([1.0], r"`scores` must be one per source \(\d+\), got 1"), ([math.nan] * 8, "must be finite numbers")],
)
def test_scores_that_fit_no_sources_are_refused(scores: list[float], message: str) -> None:
    one = asked()
    scores = scores * (len(one.sources) // len(scores)) if len(scores) > 1 else scores
    with pytest.raises(ValueError, match=message):
        response_faithfulness(model("llama"), one, scores)
