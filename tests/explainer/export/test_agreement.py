"""Comparing a program with PyTorch: differences are refused, or counted."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from explainer.export.agreement import Agreement, agreement, check
from explainer.export.exportable import ExportableAttributor, Run
from tests.explainer.tools import LORA_WARNINGS
from tests.families import TASKS, TEXTS

pytestmark = LORA_WARNINGS
Make = Callable[..., tuple]


def runner(exportable: ExportableAttributor, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Run:
    """A program that gives the module's own outputs, changed."""

    @torch.no_grad()
    def run(inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return change(*exportable(**inputs))

    return run


def same(logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    return logits, scores


@pytest.mark.parametrize("task", [*TASKS.values(), {"labels": 2, "problem_type": "regression"}])
def test_the_module_itself_passes(task: dict, make: Make) -> None:
    exportable = ExportableAttributor(*make("bert", "side", **task))
    assert check(runner(exportable, same), exportable, TEXTS, "The thing") < 1e-5


def test_a_program_that_computes_something_else_is_refused(make: Make) -> None:
    exportable = ExportableAttributor(*make())
    for change in (lambda logits, scores: (logits, scores + 2e-4), lambda logits, scores: (logits + 2e-4, scores)):
        with pytest.raises(ValueError, match=r"The thing of 'tiny-bert' differs from PyTorch by 2\.0e-04, more than 1"):
            check(runner(exportable, change), exportable, TEXTS, "The thing")


def test_nan_is_refused(make: Make) -> None:
    exportable = ExportableAttributor(*make())
    with pytest.raises(ValueError, match=r"differs from PyTorch by inf"):
        check(runner(exportable, lambda logits, scores: (logits, scores / 0.0)), exportable, TEXTS, "The thing")


@pytest.mark.parametrize("task", TASKS)
def test_agreement_of_the_attributor_with_itself_is_full(task: str, make: Make) -> None:
    exportable = ExportableAttributor(*make("bert", "side", **TASKS[task]))
    found = agreement(runner(exportable, same), exportable, TEXTS)
    assert found.spearman == pytest.approx(1, abs=1e-6)
    assert found.top_20_overlap == 1.0
    assert found.largest_logit_difference is not None
    assert found.largest_logit_difference < 1e-6
    if task == "regression":
        assert (found.changed_predictions, found.largest_probability_difference) == (None, None)
        assert "predicted values off by at most 0.000" in str(found)
    else:
        assert found.changed_predictions == 0
        assert found.largest_probability_difference < 1e-6
        assert "0 predictions changed" in str(found)


@pytest.mark.parametrize("task", ["classification", "multi_label"])
def test_agreement_counts_changed_predictions_and_turned_scores(task: str, make: Make) -> None:
    exportable = ExportableAttributor(*make("bert", "side", **TASKS[task]))
    found = agreement(runner(exportable, lambda logits, scores: (-logits, -scores)), exportable, TEXTS)
    assert found.spearman == pytest.approx(-1, abs=1e-6)
    assert found.changed_predictions == len(TEXTS)


def test_one_label_of_several_changes_the_prediction_of_a_text(make: Make) -> None:
    exportable = ExportableAttributor(*make("bert", "side", **TASKS["multi_label"]))

    def turned(logits: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        return logits * torch.tensor([1.0, 1.0, -1.0]), scores

    assert agreement(runner(exportable, turned), exportable, TEXTS).changed_predictions == len(TEXTS)


def test_records_of_before_there_were_several_tasks_are_read() -> None:
    old = {
        "n": 3,
        "spearman": 0.9,
        "top_20_overlap": 0.8,
        "changed_predictions": 1,
        "largest_probability_difference": 0.1,
    }
    assert str(Agreement(**old)).endswith("1 predictions changed, probabilities off by at most 0.100")
