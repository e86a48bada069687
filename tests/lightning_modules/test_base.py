"""What every training shares: only trained parameters are saved, and a file that lacks one is refused."""

import pytest
import torch
from torch import nn

from lightning_modules.base import TrainingModule


class Small(TrainingModule):
    """A frozen layer below a trained one."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.1, weight_decay=0.0, warmup=0.0)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.trained = nn.Linear(2, 2)


def test_state_holds_what_is_trained() -> None:
    assert set(Small().state_dict()) == {"trained.weight", "trained.bias"}


def test_state_loads_into_another() -> None:
    one, other = Small(), Small()
    frozen = other.frozen.weight.clone()
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.trained.weight, one.trained.weight)
    assert torch.equal(other.frozen.weight, frozen)


def test_missing_and_unknown_parameters_are_refused() -> None:
    state = Small().state_dict()
    with pytest.raises(RuntimeError, match=r"lacks 1 trained .*'trained.weight'"):
        Small().load_state_dict({"trained.bias": state["trained.bias"]})
    with pytest.raises(RuntimeError, match=r"1 unknown .*'extra'"):
        Small().load_state_dict(state | {"extra": torch.zeros(1)})
