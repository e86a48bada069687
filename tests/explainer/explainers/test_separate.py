"""The separate explainer: a copy of the backbone, word embeddings frozen, the explained model out of reach."""

import pytest
import torch

from explainer.explained import Target
from explainer.explainers import SeparateExplainer
from tests.explainer.tools import batch_of, fresh
from tests.families import FAMILIES, explained

TARGET = Target.of([0, 1, 2, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_it_starts_from_the_explained_weights_in_memory_of_its_own(family: str) -> None:
    model = explained(family)
    explainer = SeparateExplainer(model)
    original = dict(model.backbone.named_parameters())
    for name, parameter in explainer.network.named_parameters():
        assert torch.equal(parameter, original[name])
    storages = {parameter.data_ptr() for parameter in explainer.parameters()}
    assert not storages & {parameter.data_ptr() for parameter in model.parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_word_embeddings_are_frozen_and_all_else_is_trained(family: str) -> None:
    explainer = SeparateExplainer(explained(family))
    words = {id(parameter) for parameter in explainer.network.get_input_embeddings().parameters()}
    assert words
    for parameter in explainer.parameters():
        assert parameter.requires_grad == (id(parameter) not in words)
    trained = explainer.trained(explained(family))
    assert not words & {id(parameter) for parameter in trained.values()}
    assert len(trained) == sum(parameter.requires_grad for parameter in explainer.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_training_it_does_not_change_the_explained_model(family: str) -> None:
    model = fresh(family)
    explainer = SeparateExplainer(model).train()
    batch = batch_of(model)
    logits = model(batch).logits
    words = explainer.network.get_input_embeddings().weight.detach().clone()
    head = explainer.head[0].weight.detach().clone()
    optimizer = torch.optim.AdamW(explainer.parameters(), lr=1e-2)
    explainer(model, batch, TARGET).pow(2).sum().backward()
    optimizer.step()
    assert torch.equal(model(batch).logits, logits)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(explainer.network.get_input_embeddings().weight, words)
    assert not torch.equal(explainer.head[0].weight, head)


def test_the_pooler_that_is_not_read_is_dropped() -> None:
    assert not any("pooler" in name for name in SeparateExplainer(explained("bert")).trained(explained("bert")))
    assert explained("bert").backbone.pooler is not None


def test_it_has_no_settings() -> None:
    assert SeparateExplainer(explained("bert")).settings == {}
