"""Occlusion: window 1 is exact SIG, a wider one the mean over the windows that hold the token."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from explainer.explained import ExplainedModel, Target
from explainer.methods import SIG, AbstractMethod, Occlusion
from tests.explainer.tools import double, encoded, relative_error
from tests.families import FAMILIES, TEXTS

TARGET = Target.of([0, 1, 2, 0])


def scores(method: AbstractMethod, model: ExplainedModel, texts: list[str], target: Target) -> Tensor:
    """Of all texts, one after the other."""
    return torch.cat(list(method.attribute(model, encoded(model, texts), target).scores))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_window_of_one_is_exact_sig(family: str) -> None:
    model = double(family)
    window = scores(Occlusion(window=1), model, TEXTS, TARGET)
    assert relative_error(window, scores(SIG(), model, TEXTS, TARGET)) < 1e-5


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_a_wider_window_is_averaged_over_its_places(family: str, grouped: bool) -> None:
    model = double(family)
    text = encoded(model, TEXTS[1:2])[0]
    text = replace(text, units=tuple(place // 2 for place in range(len(text)))) if grouped else text
    ids, units = text.tokens.input_ids, text.unit_masks
    falls: list[list[float]] = [[] for _ in units]
    whole = model.model(input_ids=ids[None]).logits[0, 0]
    for start in range(len(units) - 2):
        other = ids.masked_fill(torch.stack(units[start : start + 3]).any(dim=0), model.baseline_token_id)
        for k in range(start, start + 3):
            falls[k].append((whole - model.model(input_ids=other[None]).logits[0, 0]).item())
    expected = torch.zeros(len(ids))
    for unit, of_unit in zip(units, falls, strict=True):
        expected[unit] = sum(of_unit) / len(of_unit) / int(unit.sum())
    averaged = Occlusion(window=3).attribute(model, [text], TARGET[:1]).scores[0]
    assert relative_error(averaged, expected) < 1e-5


def test_a_window_wider_than_the_text_is_the_text() -> None:
    model = double("bert")
    empty = torch.tensor([[2, 4, 4, 3]])
    ids = encoded(model, ["good film"])[0].tokens.input_ids[None]
    assert empty[0, 0] == ids[0, 0]
    assert empty[0, 1] == model.baseline_token_id
    fall = (model.model(input_ids=ids).logits - model.model(input_ids=empty).logits)[0, 0]
    assert relative_error(scores(Occlusion(window=9), model, ["good film"], TARGET[:1])[1:3], fall.repeat(2)) < 1e-5


def test_the_cost_is_a_forward_pass_per_window_and_the_text() -> None:
    assert Occlusion(window=3).forward_equivalents(10) == 9
    assert Occlusion(window=3).forward_equivalents(2) == 2
