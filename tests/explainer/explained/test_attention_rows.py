"""The attention of a few rows, beside the whole attention of every layer."""

import pytest
import torch

from explainer.explained import explain_response
from explainer.explained.attention import edit_attention_weights
from explainer.explained.attention_rows import attention_rows
from explainer.explained.tasks.response import read_places
from tests.explainer.explained.test_responses import MESSAGES, every_family, model
from tests.families import explained as classifier


def test_a_model_that_reads_both_ways_attends_to_what_follows() -> None:
    explained = classifier("bert")
    batch = explained.collate(explained.encode(["a good film and so"]))
    places, shares = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 1)
    whole: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, weights: torch.Tensor) -> torch.Tensor:
        whole.append(weights[:, :, 0])
        return weights

    with torch.no_grad(), edit_attention_weights(explained.model, keep):
        explained(batch)
    with torch.no_grad(), attention_rows(explained, places, shares) as rows:
        explained(batch)
    assert torch.allclose(rows.mean(), torch.cat(whole, dim=1), atol=1e-5)


@every_family
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_are_those_of_the_whole_attention(family: str, side: str) -> None:
    explained = model(family)
    responses = [
        explain_response(explained, MESSAGES, " good fun and so", token=(1, 3)),
        explain_response(explained, "the film was", " good"),
    ]
    batch = explained.collate([one.text for one in responses], side=side)
    padded = batch.right_padded()[0]
    places = read_places(padded)
    shares = explained.task.read_share(padded).gather(1, places)
    whole: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, weights: torch.Tensor) -> torch.Tensor:
        whole.append(weights)
        return weights

    with torch.no_grad():
        with edit_attention_weights(explained.model, keep):
            explained(batch)
        with attention_rows(explained, places, shares) as rows:
            answer = explained(batch)
    of_all = torch.cat([torch.einsum("bhqk,bq->bhk", one, explained.task.read_share(padded)) for one in whole], dim=1)
    assert torch.allclose(rows.mean(), of_all, atol=1e-5)
    assert torch.allclose(rows.mean().sum(dim=-1), torch.ones(()), atol=1e-5)
    assert torch.equal(answer.logits, explained(batch).logits)
