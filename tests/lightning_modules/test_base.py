"""The base of every training: only trained parameters are saved, and a file that lacks one is refused."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from explainer.explained import ExplainedModel
from lightning_modules.base import TrainingModule, check_precision, check_predicts_one
from tests.families import TASKS, explained


class Small(TrainingModule):
    """A frozen layer below a trained one."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.1, weight_decay=0.0, warmup=0.0)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.trained = nn.Linear(2, 2)


def test_the_state_holds_the_trained_parameters_alone() -> None:
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


def test_a_model_without_one_prediction_is_refused() -> None:
    for options in TASKS.values():
        check_predicts_one(explained("bert", **options))
    several: ExplainedModel = explained("bert", labels=3, problem_type="regression")
    with pytest.raises(ValueError, match="`explained` predicts 3 values"):
        check_predicts_one(several)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_precisions_that_convert_the_explained_model_are_refused(precision: str) -> None:
    for works in ("32-true", "bf16-mixed"):
        check_precision(pl.Trainer(accelerator="cpu", precision=works, logger=False, enable_checkpointing=False))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"`--trainer.precision {precision}` would convert the explained model"):
        check_precision(pl.Trainer(accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False))  # type: ignore[arg-type]
