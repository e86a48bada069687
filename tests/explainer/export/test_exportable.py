"""The module that programs are traced from: its inputs, its two outputs, and what they say of a task."""

from collections.abc import Callable

import pytest
import torch

from explainer.explained import PREDICTED, ExplainedModel, Target
from explainer.explainers import SideExplainer
from explainer.export.exportable import ExportableAttributor
from explainer.methods.trained.amortized import Amortized
from tests.explainer.tools import LORA_WARNINGS
from tests.families import FAMILIES, TASKS, TEXTS
from tests.sequence_classifiers import build

pytestmark = LORA_WARNINGS
Make = Callable[..., tuple]


@pytest.mark.parametrize("kind", ["lora", "side"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_gives_logits_and_scores_of_the_method(family: str, kind: str, make: Make) -> None:
    model, method = make(family, kind)
    exportable, texts = ExportableAttributor(model, method), model.encode(TEXTS)
    readout, [attributions] = method.explain(model, texts, [Target.of([PREDICTED, 0, 1, 2])])
    with torch.no_grad():
        logits, scores = exportable(**exportable.inputs(texts, torch.tensor([PREDICTED, 0, 1, 2])))
    assert torch.allclose(logits, readout.logits[:, 0], atol=1e-6)
    for found, expected in zip(scores, attributions.scores, strict=True):
        assert torch.allclose(found[: len(expected)], expected, atol=1e-6)
        assert not found[len(expected) :].any()


def test_what_stands_in_the_padding_is_not_read(make: Make) -> None:
    model, method = make("roberta")
    exportable = ExportableAttributor(model, method)
    inputs = exportable.inputs(model.encode(TEXTS), torch.zeros(4, dtype=torch.int64))
    other = inputs | {"input_ids": inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, 9)}
    assert not torch.equal(inputs["input_ids"], other["input_ids"])
    for output, expected in zip(exportable(**inputs), exportable(**other), strict=True):
        assert torch.equal(output, expected)


@pytest.mark.parametrize(("family", "reads_types"), [("bert", True), ("distilbert", False), ("llama", False)])
def test_token_types_are_an_input_where_the_model_reads_them(family: str, reads_types: bool, make: Make) -> None:
    model, method = make(family)
    inputs = ExportableAttributor(model, method).inputs(model.encode(TEXTS), torch.zeros(4, dtype=torch.int64))
    assert ("token_type_ids" in inputs) == reads_types


@pytest.mark.parametrize("task", TASKS)
def test_minus_1_is_the_predicted_label_of_every_task(task: str, make: Make) -> None:
    model, method = make("bert", "side", **TASKS[task])
    exportable, texts = ExportableAttributor(model, method), model.encode(TEXTS)
    assert exportable.has_prediction
    with torch.no_grad():
        logits, scores = exportable(**exportable.inputs(texts, torch.full((4,), PREDICTED)))
        _, expected = exportable(**exportable.inputs(texts, logits.argmax(dim=1)))
    assert torch.equal(scores, expected)


def test_minus_1_is_no_label_of_several_values(make: Make) -> None:
    model, method = make("bert", "side", labels=2, problem_type="regression")
    exportable, texts = ExportableAttributor(model, method), model.encode(TEXTS[:2])
    assert not exportable.has_prediction
    with torch.no_grad():
        _, scores = exportable(**exportable.inputs(texts, torch.tensor([PREDICTED, 1])))
    assert scores[0].isnan().all()
    assert scores[1].isfinite().all()


def test_a_task_without_a_closed_list_of_labels_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model, method = make()
    monkeypatch.setattr(type(model), "labels", [])
    with pytest.raises(ValueError, match="The task 'text-classification' has no closed list of labels"):
        ExportableAttributor(model, method)


def test_a_model_that_padding_changes_is_not_exported() -> None:
    served = ExplainedModel(*build("fnet"))
    with pytest.raises(ValueError, match="Padding changes what FNetForSequenceClassification answers"):
        ExportableAttributor(served, Amortized(SideExplainer(served)))
