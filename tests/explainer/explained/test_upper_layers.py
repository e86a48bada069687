"""Resuming from a block: the logits of the whole run, the lower blocks run once, and nothing left behind."""

from collections import Counter
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explainer.explained import ExplainedModel, edit_attention_weights
from explainer.explained.upper_layers import UpperLayers, layer_index
from tests.explainer.tools import batch_of, bit_equal_logits, double, logits_of, relative_error
from tests.families import FAMILIES, explained

every_family = pytest.mark.parametrize("family", FAMILIES)
every_layer = pytest.mark.parametrize("layer", [0, 1])
ROWS = torch.tensor([2, 0, 0, 3, 1, 3])


@pytest.mark.parametrize("side", ["right", "left"])
@every_layer
@every_family
def test_resumed_logits_are_the_whole_run_s(family: str, layer: int, side: str) -> None:
    model = explained(family)
    batch = batch_of(model, side=side)
    expected = logits_of(model, batch)
    upper = UpperLayers(model, batch, layer)
    assert relative_error(upper.readout.logits[:, 0], expected) < 1e-6
    assert relative_error(upper(ROWS).logits[:, 0], expected[ROWS]) < 1e-5
    precise = UpperLayers(double(family), batch, layer)(ROWS).logits[:, 0]
    assert relative_error(precise, logits_of(double(family), batch)[ROWS]) < 1e-12


@every_layer
@every_family
def test_an_edit_of_the_layer_s_maps_gives_the_whole_run_s_logits_and_gradient(family: str, layer: int) -> None:
    model = double(family)
    batch = batch_of(model)
    inside = set(model.layers[layer].modules())
    shape: list[torch.Size] = []
    leaf = torch.empty(0)

    def supply(module: nn.Module, weights: Tensor) -> Tensor:
        shape.append(weights.shape)
        return leaf if len(leaf) and module in inside else weights

    with edit_attention_weights(model.model, supply):
        upper = UpperLayers(model, batch, layer)
        leaf = torch.rand(shape[0], dtype=torch.float64).requires_grad_()
        found, expected = upper(torch.arange(len(batch))).logits[:, 0], logits_of(model, batch)
        gradients = [torch.autograd.grad(logits[:, 0].sum(), leaf)[0] for logits in (found, expected)]
    assert relative_error(found, expected) < 1e-12
    assert relative_error(*gradients) < 1e-12
    assert relative_error(found, upper.readout.logits[:, 0]) > 1e-6


@every_layer
@every_family
def test_the_lower_blocks_run_once_however_many_calls_follow(family: str, layer: int) -> None:
    model = explained(family)
    batch = batch_of(model)
    calls: Counter[int] = Counter()

    def counted(i: int) -> Any:
        return lambda *_: calls.update([i])

    with ExitStack() as hooks:
        for i, block in enumerate(model.layers):
            part = next(m for m in block.modules() if isinstance(m, (nn.LayerNorm, nn.Linear)))  # runs with the block
            hooks.callback(part.register_forward_hook(counted(i)).remove)
        upper = UpperLayers(model, batch, layer)
        for _ in range(3):
            upper(ROWS)
    assert calls == {i: 1 if i < layer else 4 for i in range(len(model.layers))}


@every_family
def test_nothing_is_left_behind_also_after_an_exception(family: str) -> None:
    model = explained(family)
    batch = batch_of(model)
    attributes = [set(vars(block)) for block in model.layers]

    def broken(*_: Any) -> None:
        raise RuntimeError("inside the model")

    with bit_equal_logits(model):
        upper = UpperLayers(model, batch, -1)
        upper(ROWS)
        handle = model.layers[-1].register_forward_hook(broken)
        for run in (lambda: upper(ROWS), lambda: UpperLayers(model, batch, -1)):
            with pytest.raises(RuntimeError, match="inside the model"):
                run()
        handle.remove()
        assert [set(vars(block)) for block in model.layers] == attributes


@every_family
def test_the_state_recorded_enters_the_block(family: str) -> None:
    model: ExplainedModel = explained(family)
    batch = batch_of(model)
    seen: list[Tensor] = []
    handle = model.layers[0].register_forward_hook(lambda *call: seen.append(call[-1]))
    states = UpperLayers(model, batch, 1).hidden
    handle.remove()
    left = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    assert torch.equal(states, left)
    assert UpperLayers(model, batch, 0).hidden.shape == states.shape


def test_layers_count_from_either_end() -> None:
    model = explained("bert")
    assert [layer_index(model, layer) for layer in (-2, -1, 0, 1)] == [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"`layer` must lie between -2 and 1 \(the model has 2\), got 2"):
        UpperLayers(model, batch_of(model), 2)
