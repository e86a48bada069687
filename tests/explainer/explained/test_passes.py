"""One pass: batches under a budget, the embedding seam, a model's inputs."""

import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explainer.explained.passes import edit_output, fitted, layer_states, model_inputs, token_budgeted
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


# Memory

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_batch_that_does_not_fit_is_halved_and_the_later_ones_stay_as_small(error: BaseException) -> None:
    lengths = [9, 8, 7, 6, 5, 5, 5, 5]
    asked: list[list[int]] = []

    def run(batch: list[int]) -> list[int]:
        asked.append(batch)
        if len(batch) * max(lengths[i] for i in batch) > 18:
            raise error
        return [lengths[i] for i in batch]

    found = list(fitted([[0, 1, 2, 3], [4, 5, 6, 7]], lengths, run, run))
    assert found == [(batch, [lengths[i] for i in batch]) for batch in ([0, 1], [2, 3], [4, 5], [6, 7])]
    assert asked == [[0, 1, 2, 3], [0, 1], [2, 3], [4, 5], [6, 7]]  # the second batch is not tried whole


def test_other_errors_are_raised_as_they_are() -> None:
    def run(batch: list[int]) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(fitted([[0, 1]], [3, 3], run, run))


def test_a_sequence_that_does_not_fit_by_itself_is_run_leaner_or_named_with_its_length() -> None:
    def run(batch: list[int]) -> str:
        if 1 in batch:
            raise ERRORS[0]
        return "run"

    assert list(fitted([[0, 1, 2]], [3, 700, 3], run, lambda batch: "leaner")) == [
        ([0], "run"),
        ([1], "leaner"),
        ([2], "run"),
    ]
    with pytest.raises(ValueError, match=r"A sequence of 700 tokens does not fit.*CUDA out of memory.*bfloat16"):
        list(fitted([[0, 1, 2]], [3, 700, 3], run, run))


def test_the_memory_of_a_failed_batch_is_free_before_the_next_one() -> None:
    """Nothing refers to what the failed call held: the error's traceback is gone."""
    held: list[weakref.ref[Any]] = []

    def run(batch: list[int]) -> int:
        assert all(one() is None for one in held)
        large = torch.zeros(4)
        held.append(weakref.ref(large))
        if len(batch) > 1:
            raise torch.OutOfMemoryError
        return 0

    assert [batch for batch, _ in fitted([[0, 1, 2, 3]], [1, 1, 1, 1], run, run)] == [[0], [1], [2], [3]]
    assert len(held) == 6  # the second half is not tried whole
