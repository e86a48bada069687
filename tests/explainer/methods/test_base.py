"""The contract's helpers: settings, masks, logits, and gradient times input on functions known in closed form."""

import dataclasses

import pytest
import torch

from explainer.explained.batch import TokenBatch, Tokens
from explainer.methods import SIG, Random
from explainer.methods.base import gradient_times_input, logit_of, one_at_a_time, scorable_only
from tests.explainer.tools import batch_of
from tests.families import FAMILIES, explained


def test_settings_hold_the_name_and_every_field() -> None:
    assert SIG(n_steps=4).settings == {"method": "sig", "n_steps": 4, "internal_batch_size": None, "baseline": None}


def test_methods_with_equal_settings_are_equal_and_cannot_change() -> None:
    assert Random(seed=1) == Random(seed=1) != Random(seed=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Random().seed = 3  # type: ignore[misc]


def test_scorable_only_zeroes_the_rest_even_where_it_is_nan() -> None:
    ids = torch.tensor([[1, 2, 3]])
    batch = TokenBatch(ids, torch.tensor([[1, 1, 0]]), torch.tensor([[False, True, False]]))
    values = torch.tensor([[torch.nan, 2.0, torch.inf]], dtype=torch.float64, requires_grad=True)
    scores = scorable_only(values, batch)
    assert scores.tolist() == [[0.0, 2.0, 0.0]]
    assert scores.dtype == torch.float32
    assert not scores.requires_grad


def test_logit_of_takes_each_row_s_target() -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert logit_of(logits, torch.tensor([1, 0])).tolist() == [2.0, 3.0]


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_times_input_is_autograd_s_of_the_embedding_table_s_rows(family: str) -> None:
    """The gradient at a token's own position, got here by perturbing the output of the embedding by a zero."""
    model = explained(family)
    batch = batch_of(model)
    target = torch.tensor([0, 1, 2, 0])
    nudge = torch.zeros(*batch.input_ids.shape, model.embedding.weight.shape[1], requires_grad=True)
    logit_of(model(batch, edit=lambda e: e + nudge), target).sum().backward()
    assert nudge.grad is not None
    expected = (nudge.grad * model.embedding(batch.input_ids)).sum(dim=-1).masked_fill(~batch.scorable, 0)
    found = gradient_times_input(model, batch, lambda logits: logit_of(logits, target))
    assert torch.allclose(found, expected, atol=1e-6, rtol=1e-4)


def test_one_at_a_time_gives_each_token_the_fall_of_its_own_text() -> None:
    model = explained("bert")
    batch = batch_of(model, side="left")
    target = torch.tensor([0, 1, 2, 0])

    def unchanged(row: Tokens, j: int) -> Tokens:
        return row

    assert (one_at_a_time(model, batch, target, unchanged) == 0).all()
