"""The values of sets of drawn rankings against the curves of each, over every family, task and operator."""

from typing import get_args

import pytest
import torch

from explainer.explained import Attributions, Target
from explainer.explained.batch import PaddingSide
from explainer.faithfulness.curves import PERCENTS, top_count
from explainer.faithfulness.perturbation import Operator
from explainer.faithfulness.set_values import drawn_set_values, reads_padded_texts, top_set_values
from tests.explainer.tools import batch_of
from tests.families import FAMILIES, TASKS, TEXTS, explained


def check(family: str, task: str, side: PaddingSide, operator: Operator) -> None:
    """Every draw has the values that the curves of its scores have."""
    model, draws = explained(family, **TASKS[task]), 3
    texts = model.encode(TEXTS)
    target, batch = Target.of([0] * len(texts)), batch_of(model, side=side)
    drawn = torch.rand(len(texts), draws, batch.input_ids.shape[1], generator=torch.Generator().manual_seed(0))
    model.batch_tokens, budget = 64, model.batch_tokens  # several batches
    try:
        found, sets = drawn_set_values(model, texts, batch, target, drawn, operator=operator)
    finally:
        model.batch_tokens = budget
    assert found.abs().max() > 0
    counts = [[top_count(text.n_scorable, percent) for percent in PERCENTS] for text in texts]
    for draw in range(draws):
        assert sets[:, draw].sum(dim=2).tolist() == counts
        given = Attributions(texts, target, batch.split(drawn[:, draw]))
        assert torch.allclose(found[:, draw], top_set_values(model, given, operator=operator), atol=1e-5)


@pytest.mark.parametrize("operator", ["delete", "replace"])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_sets_of_drawn_rankings_have_the_values_of_the_curves(
    family: str, task: str, side: PaddingSide, operator: Operator
) -> None:
    model = explained(family, **TASKS[task])
    assert reads_padded_texts(model) or not model.pads or model.task.decoder_reads_text
    check(family, task, side, operator)


@pytest.mark.parametrize("operator", get_args(Operator))
@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_every_operator_has_them(family: str, operator: Operator) -> None:
    check(family, "classification", "right", operator)
