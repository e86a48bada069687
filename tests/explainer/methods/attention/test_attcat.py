"""AttCAT against its formula, with states and gradients taken from the layers themselves."""

import pytest
import torch
from torch import Tensor

from explainer.explained import Target
from explainer.methods import AttCAT
from explainer.methods.attention.weights import as_leaf, attention_weights
from tests.explainer.tools import batch_of, deberta, double, hook_count, logits_of, relative_error
from tests.families import TEXTS


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_scores_are_the_paper_s_sum_over_layers(family: str) -> None:
    model = double(family)
    batch = batch_of(model, TEXTS[:1])
    states: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(lambda _, args: states.append(args[0]) or args[0].retain_grad())
        for layer in model.layers
    ]
    logits_of(model, batch, as_leaf)[0, 2].backward()
    for handle in handles:
        handle.remove()
    expected = torch.zeros(batch.input_ids.shape[1], dtype=torch.float64)
    for state, weights in zip(states, attention_weights(model, batch), strict=False):
        assert state.grad is not None
        for i in range(len(expected)):
            activation = sum(state[0, i, d] * state.grad[0, i, d] for d in range(state.shape[2]))
            expected[i] += weights[0, :, :, i].mean() * activation.detach()
    scores = AttCAT().scores(model, batch, Target.of([2]))[0]
    assert relative_error(scores, expected.masked_fill(~batch.scorable[0], 0.0)) < 1e-5


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_a_foil_s_scores_are_subtracted(family: str) -> None:
    """Gradients are linear in the objective, and the attention received does not depend on it."""
    model = double(family)
    batch = batch_of(model)
    target, foil = [0] * len(TEXTS), [2] * len(TEXTS)
    against = AttCAT().scores(model, batch, Target.of(target, foil))
    plain = [AttCAT().scores(model, batch, Target.of(choices)) for choices in (target, foil)]
    assert relative_error(against, plain[0] - plain[1]) < 1e-5


def test_no_hook_is_left_after_an_error_in_the_pass() -> None:
    model = double("bert")
    batch = batch_of(model)
    before = hook_count(model)
    with pytest.raises((IndexError, RuntimeError)):
        AttCAT().scores(model, batch, Target.of([99] * len(TEXTS)))
    assert hook_count(model) == before


def test_a_model_off_the_attention_interface_is_refused_with_the_way_out() -> None:
    model = deberta()
    with pytest.raises(ValueError, match=r"DebertaV2ForSequenceClassification.*`leave_one_out`"):
        AttCAT().scores(model, batch_of(model), Target.of([0] * len(TEXTS)))
