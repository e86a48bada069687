"""Checkpointing wraps and unwraps, and computes the inside of a layer again for its gradient."""

import pytest
import torch
from torch import nn

from explainer.explained.checkpointing import checkpointed


def test_gradients_are_equal_and_the_layer_runs_again_in_the_backward_pass() -> None:
    layer = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    runs: list[int] = []
    layer[1].register_forward_hook(lambda *_: runs.append(1))
    x = torch.randn(2, 3, requires_grad=True)
    (expected,) = torch.autograd.grad(layer(x).sum(), x)
    with checkpointed([layer]):
        y = layer(x)
        assert len(runs) == 2
        (found,) = torch.autograd.grad(y.sum(), x)
    assert len(runs) == 3
    assert torch.equal(found, expected)


def test_layers_are_restored_after_an_exception_with_the_forward_they_had() -> None:
    plain, patched = nn.Linear(3, 3), nn.Linear(3, 3)
    own = vars(patched)["forward"] = patched.forward
    with pytest.raises(RuntimeError, match="inside"), checkpointed([plain, patched]):
        raise RuntimeError("inside")
    assert "forward" not in vars(plain)
    assert vars(patched)["forward"] is own
