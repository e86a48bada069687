"""The meaning of a classifier's head: one label of several, labels by themselves, or values."""

from types import SimpleNamespace

import pytest
import torch

from explainer.explained import ExplainedModel, TextClassification
from explainer.explained.tasks.labels import label_names
from tests.explainer.tools import fresh
from tests.families import FAMILIES, TASKS, TEXTS, explained

LINKS = {"classification": "softmax", "multi_label": "sigmoid", "regression": "identity"}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_probabilities_and_values_are_those_of_the_bare_model(family: str, task: str) -> None:
    model = explained(family, **TASKS[task])
    assert model.task.link == LINKS[task]
    readout = model.predict([text.tokens for text in model.encode(TEXTS)])
    for i, text in enumerate(TEXTS):
        with torch.no_grad():
            logits = model.model(**model.tokenizer(text, return_tensors="pt")).logits[0]
        assert torch.allclose(readout.logits[i, 0], logits, atol=1e-5)
        if task == "regression":
            assert readout.probabilities is None
        else:
            expected = logits.softmax(dim=0) if task == "classification" else logits.sigmoid()
            assert readout.probabilities is not None
            assert torch.allclose(readout.probabilities[i, 0], expected, atol=1e-5)


def test_one_output_is_a_regression_unless_the_configuration_or_the_user_says_otherwise() -> None:
    assert explained("bert", labels=1).task.link == "identity"
    assert explained("bert", labels=1, problem_type="multi_label_classification").task.link == "sigmoid"
    model = fresh("bert")
    task = TextClassification.of(model.model, link="sigmoid")
    assert ExplainedModel(model.model, model.tokenizer, task=task).task.link == "sigmoid"


def test_an_unknown_problem_type_is_refused() -> None:
    model = fresh("bert")
    object.__setattr__(model.model.config, "problem_type", "ordinal")
    with pytest.raises(ValueError, match=r"`problem_type` .* must be one of .*regression, got 'ordinal'"):
        TextClassification.of(model.model)


def test_names_that_are_no_strings_become_strings() -> None:
    config = SimpleNamespace(id2label={0: 0, 1: None, 2: "two"}, num_labels=3)
    assert label_names(config) == ("0", "None", "two")
