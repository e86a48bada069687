"""Seeds, latent relevance, the gamma rule's and checkpointing's place, over the LRP methods and all families."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from explainer.explained import ExplainedModel
from explainer.methods import CPLRP, AttnLRP
from explainer.methods.base import gradient_times_input
from explainer.methods.lrp import AbstractLRP, lrp_rules
from tests.explainer.tools import batch_of, bit_equal_logits, double, explained, fresh, predicted, relative_error
from tests.families import EXPERTS, FAMILIES, TEXTS

every_family = pytest.mark.parametrize("family", FAMILIES)
both = pytest.mark.parametrize("kind", [AttnLRP, CPLRP])


def scores(kind: Callable[..., AbstractLRP], model: ExplainedModel, target: Tensor, **settings: object) -> Tensor:
    return kind(**settings)(model, batch_of(model), target)


@both
@every_family
def test_a_contrastive_seed_is_the_difference_of_both_classes_scores(kind: type[AbstractLRP], family: str) -> None:
    """Relevance is linear in its seed."""
    model = double(family)
    first, second = (torch.full((len(TEXTS),), c) for c in (0, 1))
    expected = scores(kind, model, first) - scores(kind, model, second)
    found = scores(kind, model, first, contrast=1)
    assert relative_error(found, expected) < 1e-4
    assert torch.equal(scores(kind, model, first, contrast="LABEL_1"), found)


def test_the_runner_up_is_the_highest_of_the_other_classes() -> None:
    model = double("bert")
    logits = model(batch_of(model))
    order = logits.argsort(dim=1, descending=True)
    found = scores(AttnLRP, model, order[:, 0], contrast="runner_up")
    expected = scores(AttnLRP, model, order[:, 0]) - scores(AttnLRP, model, order[:, 1])
    assert relative_error(found, expected) < 1e-4


def test_the_target_cannot_be_its_own_contrast() -> None:
    model = explained("bert")
    target = torch.tensor([1, 0, 1, 1])
    with pytest.raises(ValueError, match=r"`contrast` 0 is the target of text 1 itself.*'runner_up'"):
        scores(AttnLRP, model, target, contrast=0)


def test_an_unknown_contrast_is_refused_with_the_labels() -> None:
    model = explained("bert")
    with pytest.raises(ValueError, match=r"labels \['LABEL_0', 'LABEL_1', 'LABEL_2'\].*got 'sarcasm'"):
        scores(AttnLRP, model, torch.zeros(4, dtype=torch.int64), contrast="sarcasm")


def names(model: ExplainedModel) -> list[str]:
    return [name for name, module in model.model.named_modules() if any(module is layer for layer in model.layers)]


@both
@every_family
def test_relevance_of_a_layer_does_not_depend_on_padding_side_or_company(kind: type[AbstractLRP], family: str) -> None:
    model = double(family)
    target = predicted(model, batch_of(model))
    wanted = names(model)
    assert len(wanted) == len(model.layers)
    found = {side: kind().relevance(model, batch_of(model, side=side), target, wanted) for side in ("left", "right")}
    for i, text in enumerate(TEXTS):
        alone = kind().relevance(model, batch_of(model, [text]), target[i : i + 1], wanted)
        for name in wanted:
            expected = alone[name][0]
            assert expected.abs().max() > 0
            assert torch.allclose(found["right"][name][i, : len(expected)], expected, atol=1e-5, rtol=1e-4)
            assert torch.allclose(found["left"][name][i, -len(expected) :], expected, atol=1e-5, rtol=1e-4)


@both
def test_relevance_at_the_embeddings_is_the_score(kind: type[AbstractLRP]) -> None:
    model = double("llama")
    batch = batch_of(model)
    target = predicted(model, batch)
    found = kind().relevance(model, batch, target, ["model.embed_tokens"])["model.embed_tokens"]
    expected = kind()(model, batch, target)
    assert relative_error(found.sum(dim=-1).masked_fill(~batch.scorable, 0), expected) < 1e-6


def test_all_layers_come_from_the_same_pass() -> None:
    model = fresh("bert")
    batch = batch_of(model)
    passes: list[int] = []
    model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    found = AttnLRP().relevance(model, batch, torch.zeros(4, dtype=torch.int64), names(model))
    assert len(found) == 2
    assert len(passes) == 1


def test_unknown_and_silent_modules_are_refused_by_name() -> None:
    model = explained("bert")
    batch, target = batch_of(model), torch.zeros(4, dtype=torch.int64)
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
        found = scores(kind, model, target, checkpointing=True)
    assert relative_error(found, scores(kind, model, target)) < 1e-5
    assert all("forward" not in vars(layer) for layer in model.layers)


def test_checkpointing_runs_each_layer_twice_and_is_counted() -> None:
    model = fresh("bert")
    calls: list[int] = []
    model.layers[0].attention.register_forward_hook(lambda *_: calls.append(1))
    scores(AttnLRP, model, torch.zeros(4, dtype=torch.int64), checkpointing=True)
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
        scores(AttnLRP, model, torch.zeros(4, dtype=torch.int64), gamma=0.1)


@pytest.mark.parametrize("gamma", [None, 0.25])
@pytest.mark.parametrize("family", ["llama", "mistral", "gemma", "qwen3"])
def test_cp_lrp_conserves_relevance_on_bias_free_models(family: str, gamma: float | None) -> None:
    """The scores of all tokens, specials included, sum to the logit: there is no softmax to lose any in."""
    model = double(family)
    batch = batch_of(model)
    target = predicted(model, batch)
    whole: list[Tensor] = []

    def seed(logits: Tensor) -> Tensor:
        whole.append(logits.gather(1, target[:, None])[:, 0])
        return whole[0]

    everything = type(batch)(batch.input_ids, batch.attention_mask, batch.attention_mask.bool())
    with lrp_rules(model.model, "cp_lrp", gamma):
        total = gradient_times_input(model, everything, seed).double().sum(dim=1)
    assert torch.allclose(total, whole[0].double(), atol=1e-4)
