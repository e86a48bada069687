"""The completeness gap: closing with the steps of the integral, and against the bare model."""

import pytest
import torch

from explainer.evaluation.completeness import completeness_gap
from explainer.explained import Attributions, Target
from explainer.methods import SIG, IntegratedGradients
from tests.explainer.tools import double, encoded
from tests.families import FAMILIES, TASKS, explained

TARGET = Target.of([0, 1, 2, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gap_closes_with_the_steps_of_the_integral(family: str) -> None:
    model = double(family)
    texts = encoded(model)
    gaps = []
    for n_steps in (2, 64):
        method = IntegratedGradients(n_steps=n_steps)
        gaps.append(completeness_gap(method, model, method.attribute(model, texts, TARGET)))
    assert gaps[0].shape == (len(texts),)
    assert gaps[1].max() < gaps[0].max() / 20


@pytest.mark.parametrize("task", TASKS)
def test_the_gap_is_to_the_text_of_baseline_tokens(task: str) -> None:
    model = explained("bert", **TASKS[task])
    texts = encoded(model)
    target = model.predicted(texts)
    nothing = Attributions(texts, target, [torch.zeros(len(text)) for text in texts])
    gaps = completeness_gap(IntegratedGradients(), model, nothing)
    for text, gap, c in zip(texts, gaps, target.classes, strict=True):
        empty = text.tokens.input_ids.masked_fill(text.scorable, model.tokenizer.mask_token_id)
        whole, none = (model.model(input_ids=ids[None]).logits[0, c] for ids in (text.tokens.input_ids, empty))
        assert gap.item() == pytest.approx((whole - none).abs().item(), rel=1e-3)


def test_the_gap_is_of_the_objective() -> None:
    """The log-probability of the target less its foil's, where that is explained."""
    model = double("bert")
    texts = encoded(model)
    contrast = Target(TARGET.choices, (TARGET.choices + 1) % 3, "log_prob")
    method = IntegratedGradients(n_steps=64)
    gaps = completeness_gap(method, model, method.attribute(model, texts, contrast))
    assert gaps.max() < 1e-2
    other = Attributions(texts, contrast, method.attribute(model, texts, TARGET).scores)
    assert completeness_gap(method, model, other).max() > 10 * gaps.max()


def test_a_method_that_promises_no_sum_has_no_gap() -> None:
    model = explained("bert")
    with pytest.raises(ValueError, match=r"`method` 'sig' does not promise"):
        completeness_gap(SIG(), model, SIG().attribute(model, encoded(model), TARGET))
