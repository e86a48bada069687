"""Ablated responses: further targets, batches of every item, centred effects, and what is left out."""

from typing import Any

import pytest
import torch

from explainer.explained import explain_response
from explainer.faithfulness.responses import log_probabilities
from lightning_modules.data.responses import LEARNED, AblatedResponses, ablated_responses, own_responses
from lightning_modules.data.text import LengthBuckets
from tests.explainer.explained.test_responses import model

EXPLAINED = model("llama")
TEXTS = ["a film. it is fun. so it is", "one", "the film. was good", "it is. a bad film. and dull and so bad. fun"]
OPTIONS: dict[str, Any] = {"new_tokens": 4, "level": "sentence", "operator": "delete", "n_masks": 4, "seed": 0}


@pytest.fixture(scope="module")
def items() -> AblatedResponses:
    """Three responses with two further spans each."""
    return ablated_responses(EXPLAINED, TEXTS, **OPTIONS, spans=2)


def test_spans_are_targets_of_the_same_responses_with_their_own_effects(items: AblatedResponses) -> None:
    assert len(items) == 9  # "one" has a single source
    whole = items.responses[:3]
    for i, (one, measured) in enumerate(zip(items.responses, items.ablations, strict=True)):
        assert one.response_ids == whole[i % 3].response_ids
        assert measured.log_probabilities.shape == (len(measured.kept), one.span[1] - one.span[0])
        values = log_probabilities(EXPLAINED, one, measured.kept)
        assert torch.allclose(measured.log_probabilities.double().sum(dim=1), values, atol=1e-4)
    assert all(one.span == (0, len(one.response_ids)) for one in whole)
    assert {one.span for one in items.responses[3:]} != {one.span for one in whole}
    again = ablated_responses(EXPLAINED, TEXTS, **OPTIONS, spans=2)
    assert [one.span for one in again.responses] == [one.span for one in items.responses]
    other = ablated_responses(EXPLAINED, TEXTS, **{**OPTIONS, "seed": 1}, spans=2)
    assert [one.span for one in other.responses] != [one.span for one in items.responses]


def test_every_item_is_in_one_batch_of_an_epoch(items: AblatedResponses) -> None:
    batches = list(LengthBuckets(items.lengths, 4, shuffle=True))
    assert sorted(i for batch in batches for i in batch) == list(range(9))
    for index in batches:
        batch = items.batch(index)
        assert batch.index == index
        assert batch.tokens.input_ids.shape[1] == max(items.lengths[i] for i in index)
        for row, i in enumerate(index):
            assert (
                tuple(batch.target.choices[row][: len(items.responses[i].target_ids)]) == items.responses[i].target_ids
            )


def test_effects_and_designs_are_centred_within_their_kind(items: AblatedResponses) -> None:
    batch = items.batch([0, 2, 4])
    for row, i in enumerate((0, 2, 4)):
        measured = items.ablations[i]
        n, m = len(measured.kinds) - 1, measured.kept.shape[1]
        assert batch.kinds[row, :n].tolist() == measured.kinds[1:].tolist()
        assert (batch.kinds[row, n:] == -1).all()
        assert not batch.design[row, n:].any()
        assert not batch.design[row, :, m:].any()
        for kind in LEARNED:
            same = batch.kinds[row] == kind
            kept, values = measured.kept[measured.kinds == kind].float(), measured.log_probabilities.sum(dim=1)
            values = values[measured.kinds == kind]
            assert torch.allclose(batch.design[row, same, :m], kept - kept.mean(dim=0), atol=1e-5)
            assert torch.allclose(batch.effects[row, same], values - values.mean(), atol=1e-4)


def test_the_score_of_a_source_is_the_sum_of_its_tokens(items: AblatedResponses) -> None:
    batch = items.batch([1, 5])
    scores = torch.randn(batch.tokens.input_ids.shape)
    of_sources = batch.source_scores(scores)
    for row, i in enumerate((1, 5)):
        response = items.responses[i]
        expected = response.source_scores(scores[row, : len(response.text)])
        assert of_sources[row, : len(expected)].tolist() == pytest.approx(expected, abs=1e-5)
        assert not of_sources[row, len(expected) :].any()


def test_the_model_s_own_responses_are_those_that_it_generates() -> None:
    found = own_responses(EXPLAINED, TEXTS, 4, "word")
    for one in found:
        alone = explain_response(EXPLAINED, one.prompt, sources="word", generate={"max_new_tokens": 4})
        assert (one.response_ids, one.sources) == (alone.response_ids, alone.sources)
    assert [one.prompt[0]["content"] for one in found] == [text for text in TEXTS if text != "one"]


def test_texts_without_a_response_to_learn_from_are_refused() -> None:
    with pytest.raises(ValueError, match=r"None of the 1 texts has a response to learn from: .* `sources: sentence`"):
        ablated_responses(EXPLAINED, ["one"], **OPTIONS, spans=0)
