"""One pass: batches under a budget, the embedding seam, a model's inputs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explainer.explained.passes import edit_output, layer_states, model_inputs, token_budgeted
from tests.explainer.tools import batch_of, hook_count
from tests.families import explained


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 60), max_size=30), st.integers(1, 120), st.integers(1, 3))
def test_token_budgeted_batches_every_index_once_under_the_budget(lengths: list[int], budget: int, n: int) -> None:
    kinds = [length % n for length in lengths]
    batches = token_budgeted(lengths, budget, kinds)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len({kinds[i] for i in batch}) == 1
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


def test_edit_output_edits_the_first_call_only_and_leaves_no_hook() -> None:
    model = explained("t5")
    ids = torch.tensor([[3, 4]])
    plain = model.embedding(ids)
    with edit_output(model.embedding, lambda e: e + 1):
        first, second = model.embedding(ids), model.embedding(ids)
    assert torch.equal(first, plain + 1)
    assert torch.equal(second, plain)
    assert hook_count(model) == 0


def test_model_inputs_give_positions_where_they_are_asked_for() -> None:
    batch = batch_of(explained("bert"), side="left")
    assert "position_ids" not in model_inputs(explained("bert").model, batch, positions=False)
    given_positions = model_inputs(explained("bert").model, batch, positions=True)["position_ids"]
    assert torch.equal(given_positions, batch.position_ids)


def test_layer_states_leave_no_hook_after_an_exception() -> None:
    model = explained("bert")

    def broken() -> None:
        with layer_states(model.layers):
            model(batch_of(model))
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        broken()
    assert hook_count(model) == 0
