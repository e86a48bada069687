"""Foils and scores of the target, tasks, latent relevance, gamma and checkpointing, over both LRP methods."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from explainer.explained import RUNNER_UP, ExplainedModel, Readout, Target
from explainer.methods import CPLRP, AttnLRP, MaskLRP
from explainer.methods.base import gradient_times_input
from explainer.methods.lrp import AbstractLRP, lrp_rules
from tests.explainer.tools import (
    batch_of,
    bit_equal_logits,
    double,
    encoded,
    explained,
    fresh,
    logits_of,
    predicted,
    relative_error,
)
from tests.families import ANCHORED_TASKS, EXPERTS, FAMILIES, TASKS, TEXTS

every_family = pytest.mark.parametrize("family", FAMILIES)
every_task = pytest.mark.parametrize("task", TASKS)
both = pytest.mark.parametrize("kind", [AttnLRP, CPLRP])


def scores(kind: Callable[..., AbstractLRP], model: ExplainedModel, target: Target, **settings: object) -> Tensor:
    return kind(**settings).scores(model, batch_of(model), target)


def every(label: int, foil: int | None = None, score: str = "logit") -> Target:
    """The same target for every text."""
    return Target.of([label] * len(TEXTS), None if foil is None else [foil] * len(TEXTS), score)  # type: ignore[arg-type]


def double_of(family: str, task: str) -> ExplainedModel:
    """A model of another task in float64."""
    model = copy.deepcopy(explained(family, **TASKS[task])).double()
    if family in EXPERTS:
        model.model.set_experts_implementation("eager")
    return model


@both
@every_family
def test_a_foil_s_scores_are_subtracted(kind: type[AbstractLRP], family: str) -> None:
    """Relevance is linear in the objective that the pass starts from."""
    model = double(family)
    expected = scores(kind, model, every(0)) - scores(kind, model, every(1))
    assert relative_error(scores(kind, model, every(0, foil=1)), expected) < 1e-4


@both
def test_the_runner_up_is_the_highest_of_the_other_classes(kind: type[AbstractLRP]) -> None:
    model = double("bert")
    batch = batch_of(model)
    order = logits_of(model, batch).argsort(dim=1, descending=True)
    target = Target.of(order[:, 0], torch.full((len(TEXTS),), RUNNER_UP)).resolved(model(batch))
    expected = scores(kind, model, Target.of(order[:, 0])) - scores(kind, model, Target.of(order[:, 1]))
    assert relative_error(scores(kind, model, target), expected) < 1e-4


@both
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_the_log_probability_of_one_label_of_several_scales_its_scores(kind: type[AbstractLRP], family: str) -> None:
    """d ln sigmoid(f) / df = 1 - p, the same for every token of a text; the log-odds are the logit itself."""
    model = double_of(family, "multi_label")
    log_prob, log_odds, logit = (
        scores(kind, model, every(1, score=score)) for score in ("log_prob", "log_odds", "logit")
    )
    absent = 1 - model(batch_of(model)).probability(every(1))
    assert relative_error(log_prob, absent[:, None] * logit) < 1e-5
    assert torch.equal(log_odds, logit)


@both
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_the_log_odds_of_a_class_are_its_logit_less_the_others_by_their_weights(
    kind: type[AbstractLRP], family: str
) -> None:
    """d log-odds_0 / df = (1, -q_1, -q_2) with q the softmax over the other classes."""
    model = double(family)
    each = [scores(kind, model, every(label)) for label in range(3)]
    weights = logits_of(model, batch_of(model))[:, 1:].softmax(dim=-1)
    expected = each[0] - weights[:, :1] * each[1] - weights[:, 1:] * each[2]
    assert relative_error(scores(kind, model, every(0, score="log_odds")), expected) < 1e-4


@pytest.mark.parametrize("score", ["log_prob", "log_odds"])
@pytest.mark.parametrize("kind", [AttnLRP, CPLRP, partial(MaskLRP, rules="attn_lrp")])
def test_the_score_of_several_questions_weighs_the_relevance_of_the_logits_by_its_derivatives(
    kind: Callable[..., AttnLRP | CPLRP | MaskLRP], score: str
) -> None:
    """The rules are those of the model. The joint log-odds contain a softplus, which is no activation of it."""
    model = double("bert", **ANCHORED_TASKS["question-answering"])
    texts = encoded(model)
    batch, target = model.collate(texts), replace(model.asked(texts)[1], score=score)
    leaves: list[Tensor] = []

    def lift(embeddings: Tensor) -> Tensor:
        leaves.append(embeddings.detach().requires_grad_())
        return leaves[0]

    with lrp_rules(model.model, "cp_lrp" if kind is CPLRP else "attn_lrp"), torch.enable_grad():
        logits = model(batch, lift).logits
    free = logits.detach().requires_grad_()
    (weights,) = torch.autograd.grad(Readout(free).objective(target).sum(), free)
    (gradient,) = torch.autograd.grad(logits, leaves, weights.where(logits > -torch.inf, 0.0))
    expected = (leaves[0] * gradient).sum(dim=-1).masked_fill(~batch.scorable, 0.0).detach()
    assert relative_error(kind().scores(model, batch, target), expected) < 1e-5
    if kind in (AttnLRP, CPLRP):
        name = "bert.embeddings.word_embeddings"
        relevance = kind().relevance(model, batch, target, [name])[name].sum(dim=-1)  # type: ignore[union-attr]
        assert relative_error(relevance.masked_fill(~batch.scorable, 0.0), expected) < 1e-5


def names(model: ExplainedModel) -> list[str]:
    return [name for name, module in model.model.named_modules() if any(module is layer for layer in model.layers)]


@both
@every_family
def test_relevance_of_a_layer_does_not_depend_on_padding_side_or_company(kind: type[AbstractLRP], family: str) -> None:
    model = double(family)
    target = predicted(model, batch_of(model))
    layers = names(model)
    assert len(layers) == len(model.layers)
    right, left = (kind().relevance(model, batch_of(model, side=side), target, layers) for side in ("right", "left"))
    for i, text in enumerate(TEXTS):
        alone = kind().relevance(model, batch_of(model, [text]), target[i : i + 1], layers)
        for name in layers:
            expected = alone[name][0]
            assert expected.abs().max() > 0
            assert torch.allclose(right[name][i, : len(expected)], expected, atol=1e-5, rtol=1e-4)
            assert torch.allclose(left[name][i, -len(expected) :], expected, atol=1e-5, rtol=1e-4)


@both
def test_relevance_at_the_embeddings_is_the_score(kind: type[AbstractLRP]) -> None:
    model = double("llama")
    batch = batch_of(model)
    target = predicted(model, batch)
    relevance = kind().relevance(model, batch, target, ["model.embed_tokens"])["model.embed_tokens"]
    expected = kind().scores(model, batch, target)
    assert relative_error(relevance.sum(dim=-1).masked_fill(~batch.scorable, 0), expected) < 1e-6


def test_all_layers_come_from_the_same_pass() -> None:
    model = fresh("bert")
    batch = batch_of(model)
    passes: list[int] = []
    model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    relevance = AttnLRP().relevance(model, batch, every(0), names(model))
    assert len(relevance) == 2
    assert len(passes) == 1


def test_unknown_and_silent_modules_are_refused_by_name() -> None:
    model = explained("bert")
    batch, target = batch_of(model), every(0)
    with pytest.raises(ValueError, match=r"`modules` must name modules of the explained model, got 'layer 7'"):
        AttnLRP().relevance(model, batch, target, ["layer 7"])
    with pytest.raises(ValueError, match=r"`modules` names 'bert.encoder.layer', which gave no tensor"):
        AttnLRP().relevance(model, batch, target, ["bert.encoder.layer"])


@both
@every_family
def test_checkpointing_changes_no_score(kind: type[AbstractLRP], family: str) -> None:
    model = explained(family)
    target = predicted(model, batch_of(model))
    with bit_equal_logits(model):
        checkpointed = scores(kind, model, target, checkpointing=True)
    assert relative_error(checkpointed, scores(kind, model, target)) < 1e-5
    assert all("forward" not in vars(layer) for layer in model.layers)


def test_checkpointing_runs_each_layer_twice_and_is_counted() -> None:
    model = fresh("bert")
    calls: list[int] = []
    model.layers[0].attention.register_forward_hook(lambda *_: calls.append(1))
    scores(AttnLRP, model, every(0), checkpointing=True)
    assert len(calls) == 2
    assert AttnLRP(checkpointing=True).forward_equivalents(5) == 4


# gamma


@both
@every_family
def test_gamma_0_is_the_epsilon_rule(kind: type[AbstractLRP], family: str) -> None:
    model = double(family)
    target = predicted(model, batch_of(model))
    expected = scores(kind, model, target)
    assert relative_error(scores(kind, model, target, gamma=0.0), expected) < 1e-4
    assert relative_error(scores(kind, model, target, gamma=0.5), expected) > 1e-2


@pytest.mark.parametrize("family", EXPERTS)
def test_gamma_refuses_experts_that_are_multiplied_in_groups(family: str) -> None:
    model = fresh(family)
    model.model.set_experts_implementation("grouped_mm")
    with pytest.raises(ValueError, match=r"`gamma` needs linear layers one by one.*set_experts_implementation"):
        scores(AttnLRP, model, every(0), gamma=0.1)


@pytest.mark.parametrize("gamma", [None, 0.25])
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma", "qwen3"])
@every_task
def test_cp_lrp_conserves_relevance_on_bias_free_models(task: str, family: str, gamma: float | None) -> None:
    """The scores of all tokens, specials included, sum to the logit: there is no softmax to lose any in."""
    model = double_of(family, task)
    batch = batch_of(model)
    target = predicted(model, batch)
    everything = replace(batch, scorable=batch.attention_mask.bool())
    with lrp_rules(model.model, "cp_lrp", gamma):
        total = gradient_times_input(model, everything, target).double().sum(dim=1)
    assert torch.allclose(total, model.objective(batch, target).double(), atol=1e-4)
