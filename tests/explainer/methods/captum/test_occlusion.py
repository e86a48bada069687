"""Occlusion: window 1 is exact SIG, a wider one the mean over the windows that hold the token."""

import pytest
import torch

from explainer.methods import SIG, Occlusion
from tests.explainer.tools import batch_of, double, encoded, relative_error
from tests.families import FAMILIES, TEXTS

TARGET = torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_window_of_one_is_exact_sig(family: str) -> None:
    model = double(family)
    batch = batch_of(model)
    assert relative_error(Occlusion(window=1)(model, batch, TARGET), SIG()(model, batch, TARGET)) < 1e-5


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_wider_window_is_averaged_over_its_places(family: str) -> None:
    model = double(family)
    text = encoded(model, TEXTS[:1])[0]
    ids, places = text.tokens.input_ids, text.scorable.nonzero()[:, 0].tolist()
    falls: dict[int, list[float]] = {j: [] for j in places}
    whole = model.model(input_ids=ids[None]).logits[0, 0]
    for start in range(len(places) - 2):
        other = ids.clone()
        other[places[start : start + 3]] = model.baseline_token_id
        for j in places[start : start + 3]:
            falls[j].append((whole - model.model(input_ids=other[None]).logits[0, 0]).item())
    expected = torch.tensor([sum(falls[j]) / len(falls[j]) if j in falls else 0.0 for j in range(len(ids))])
    found = Occlusion(window=3)(model, batch_of(model, TEXTS[:1]), TARGET[:1])[0]
    assert relative_error(found, expected) < 1e-5


def test_a_window_wider_than_the_text_is_the_text() -> None:
    model = double("bert")
    scores = Occlusion(window=9)(model, batch_of(model, ["good film"]), TARGET[:1])[0]
    empty = torch.tensor([[2, 4, 4, 3]])
    ids = batch_of(model, ["good film"]).input_ids
    assert empty[0, 0] == ids[0, 0]
    assert empty[0, 1] == model.baseline_token_id
    fall = (model.model(input_ids=ids).logits - model.model(input_ids=empty).logits)[0, 0]
    assert relative_error(scores[1:3], fall.repeat(2)) < 1e-5


def test_the_cost_is_a_forward_pass_a_window_and_the_text() -> None:
    assert Occlusion(window=3).forward_equivalents(10) == 9
    assert Occlusion(window=3).forward_equivalents(2) == 2
