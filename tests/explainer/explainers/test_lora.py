"""The LoRA explainer: one set of backbone weights, the explained model unchanged to the bit."""

import re
import warnings

import pytest
import torch
from torch import nn

from explainer.explained import ExplainedModel, Target
from explainer.explainers import LoraExplainer
from tests.explainer.tools import LORA_WARNINGS, batch_of, fresh, relative_error
from tests.families import FAMILIES

pytestmark = LORA_WARNINGS  # they have a test of their own below
TARGET = Target.of([0, 1, 2, 0])


def randomised(model: ExplainedModel, explainer: LoraExplainer) -> None:
    """LoRA starts at zero: give it something to do."""
    with torch.no_grad():
        for name, parameter in explainer.trained(model).items():
            if ".lora_" in name:
                parameter.normal_(std=0.3)


def storages(*modules: nn.Module) -> set[int]:
    return {parameter.data_ptr() for module in modules for parameter in module.parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_bit_equal_while_adapters_are_injected_and_trained(family: str) -> None:
    model = fresh(family)
    batch = batch_of(model)
    before = model(batch).logits
    explainer = LoraExplainer(model, rank=2)
    assert torch.equal(model(batch).logits, before)
    randomised(model, explainer)
    explainer(model, batch, TARGET)
    assert torch.equal(model(batch).logits, before)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_fingerprint_stays_that_of_the_explained_model(family: str) -> None:
    model = fresh(family)
    before = model.fingerprint
    LoraExplainer(model, rank=2)
    assert model.fingerprint == before


@pytest.mark.parametrize("family", FAMILIES)
def test_no_backbone_weight_is_held_twice(family: str) -> None:
    model = fresh(family)
    original = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    explainer = LoraExplainer(model, rank=2)
    own = {name: p.data_ptr() for name, p in model.named_parameters() if ".lora_" not in name}
    now = {re.sub(r"(\.base_layer)+\.", ".", name): pointer for name, pointer in own.items()}
    assert now == original
    assert not storages(explainer) & set(original.values())
    sizes = [p.numel() for name, p in explainer.trained(model).items() if ".lora_" in name]
    assert sizes
    assert sum(sizes) < sum(p.numel() for p in model.backbone.parameters()) / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_the_adapters_after_the_block_is_left(family: str) -> None:
    model = fresh(family)
    explainer = LoraExplainer(model, rank=2)
    randomised(model, explainer)
    scores = explainer(model, batch_of(model), TARGET)
    model(batch_of(model))  # the explained model is used between the passes of a training step
    scores.pow(2).sum().backward()
    adapters = {name: p for name, p in explainer.trained(model).items() if ".lora_" in name}
    assert adapters
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in adapters.values())
    assert all(p.grad is None for name, p in model.named_parameters() if ".lora_" not in name)


def test_a_training_step_moves_scores_and_not_logits() -> None:
    model = fresh("bert")
    explainer = LoraExplainer(model, rank=2)
    batch = batch_of(model)
    logits, scores = model(batch).logits, explainer(model, batch, TARGET)
    optimizer = torch.optim.SGD(explainer.trained(model).values(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        explainer(model, batch, TARGET).pow(2).sum().backward()
        optimizer.step()
    assert torch.equal(model(batch).logits, logits)
    assert not torch.allclose(explainer(model, batch, TARGET), scores, atol=1e-4)


def test_adapters_are_on_in_the_explainer_s_own_pass() -> None:
    model = fresh("bert")
    explainer = LoraExplainer(model, rank=2)
    before = explainer(model, batch_of(model), TARGET)
    randomised(model, explainer)
    assert not torch.allclose(explainer(model, batch_of(model), TARGET), before, atol=1e-4)


def test_dropout_follows_the_explainer_s_mode_and_never_touches_the_logits() -> None:
    model = fresh("bert")
    explainer = LoraExplainer(model, rank=4, dropout=0.5)
    randomised(model, explainer)
    batch = batch_of(model)
    logits = model(batch).logits
    explainer.train()
    assert not torch.equal(explainer(model, batch, TARGET), explainer(model, batch, TARGET))
    assert torch.equal(model(batch).logits, logits)
    explainer.eval()
    assert torch.equal(explainer(model, batch, TARGET), explainer(model, batch, TARGET))


@pytest.mark.parametrize("family", FAMILIES)
def test_building_one_warns_of_nothing(family: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        LoraExplainer(fresh(family))
    assert [str(warning.message) for warning in caught] == []


def test_settings_are_the_constructor_s() -> None:
    assert LoraExplainer(fresh("bert"), rank=3, alpha=6).settings == {"rank": 3, "alpha": 6, "dropout": 0.0}


def test_a_second_lora_explainer_on_one_model_is_refused() -> None:
    model = fresh("bert")
    LoraExplainer(model)
    with pytest.raises(ValueError, match="`explained` carries adapters already"):
        LoraExplainer(model)


def test_the_explained_model_s_own_head_is_not_adapted() -> None:
    model = fresh("bert")
    LoraExplainer(model)
    assert not any(".lora_" in name for name, _ in model.model.classifier.named_parameters())
    assert not any(".lora_" in name for name, _ in model.backbone.pooler.named_parameters())


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_half_precision_is_left_to_peft_s_own_layers(family: str) -> None:
    """Under autocast, and with float32 adapters on a bfloat16 backbone, the in-place update would mix dtypes."""
    model = fresh(family)
    explainer = LoraExplainer(model, rank=2).eval()
    randomised(model, explainer)
    batch = batch_of(model)

    def without_graph_as_with_one() -> bool:
        with torch.no_grad():
            scores = explainer(model, batch, TARGET)
        return torch.equal(scores, explainer(model, batch, TARGET).detach())

    with torch.autocast("cpu", torch.bfloat16):
        assert without_graph_as_with_one()
    for name, parameter in model.named_parameters():
        if "lora_" not in name:
            parameter.data = parameter.data.bfloat16()
    assert without_graph_as_with_one()


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_without_graph_are_those_with_one(family: str) -> None:
    """Inference adds the update in place; training runs PEFT's own layers."""
    model = fresh(family)
    explainer = LoraExplainer(model, rank=2, alpha=5).eval()
    randomised(model, explainer)
    batch = batch_of(model)
    with torch.no_grad():
        fused = explainer(model, batch, TARGET)
    assert relative_error(fused, explainer(model, batch, TARGET).detach()) < 1e-5
    assert not any("forward" in vars(module) for module in model.modules())
