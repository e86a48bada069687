"""The attention seam: an identity edit changes nothing, blocks nest, and leaving restores everything."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoModelForSequenceClassification,
    BloomConfig,
    PreTrainedConfig,
    XLNetConfig,
)

from explainer.explained import ExplainedModel, edit_attention, edit_attention_weights
from tests.explainer.tools import batch_of, bit_equal_logits, deberta, double, fresh, logits_of, relative_error
from tests.families import FAMILIES, explained

SIZES = {"hidden_size": 16, "vocab_size": 50}


def identity(attend: Any, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    return attend(module, *args, **kwargs)


def halved(attend: Any, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
    output, weights = attend(module, *args, **kwargs)
    return output / 2, weights


def registered() -> tuple[set[str], set[str]]:
    return set(AttentionInterface._global_mapping), set(AttentionMaskInterface._global_mapping)


@contextmanager
def registrations_restored() -> Iterator[None]:
    before = registered()
    yield
    assert registered() == before


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_identity_reproduces_logits_of_a_padded_batch(family: str, side: str) -> None:
    model = explained(family)
    batch = batch_of(model, side=side)
    expected = logits_of(model, batch)
    with edit_attention(model.model, identity):
        assert torch.equal(logits_of(model, batch), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_edit_reaches_every_layer_with_a_mask_that_hides_padding(family: str) -> None:
    model = explained(family)
    seen: list[Any] = []

    def spy(attend: Any, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **k: Any) -> Any:
        seen.append(mask)
        return attend(module, query, key, value, mask, **k)

    with edit_attention(model.model, spy):
        model(batch_of(model))
    assert len(seen) >= 2
    # An encoder-decoder's decoder attends to its one start token and needs no mask there.
    assert sum(mask is not None for mask in seen) >= 2


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_changes_logits_and_leaving_restores_them(family: str) -> None:
    model = explained(family)
    batch = batch_of(model)
    before = logits_of(model, batch)
    with bit_equal_logits(model), registrations_restored(), edit_attention(model.model, halved):
        assert not torch.allclose(logits_of(model, batch), before, atol=1e-7, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_exception_inside_restores_the_model(family: str) -> None:
    model = explained(family)

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("inside attention")

    refusal = pytest.raises(RuntimeError, match="inside attention")
    with bit_equal_logits(model), registrations_restored(), refusal, edit_attention(model.model, broken):
        model(batch_of(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_nest(family: str) -> None:
    model = explained(family)
    calls: list[str] = []

    def named(name: str) -> Any:
        def edit(attend: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return attend(module, *args, **kwargs)

        return edit

    batch = batch_of(model)
    expected = logits_of(model, batch)
    with registrations_restored(), edit_attention(model.model, named("outer")):
        with edit_attention(model.model, named("inner")):
            assert torch.equal(logits_of(model, batch), expected)
        assert calls == ["inner", "outer"] * (len(calls) // 2)
        calls.clear()
        assert torch.equal(logits_of(model, batch), expected)
        assert set(calls) == {"outer"}


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_eager_attention_can_be_edited_and_gives_its_weights(family: str) -> None:
    model = fresh(family)
    model.model.set_attn_implementation("eager")
    batch = batch_of(model)
    expected = logits_of(model, batch)
    rows: list[Tensor] = []

    def read(attend: Any, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        output, weights = attend(module, *args, **kwargs)
        rows.append(weights.sum(dim=-1))
        return output, weights

    with edit_attention(model.model, read):
        assert torch.equal(logits_of(model, batch), expected)
    assert all(torch.allclose(row, torch.ones_like(row), atol=1e-5) for row in rows)


def test_another_model_is_not_edited() -> None:
    edited, other = fresh("bert"), fresh("bert")
    batch = batch_of(other)
    expected = logits_of(other, batch)
    with edit_attention(edited.model, halved):
        assert torch.equal(logits_of(other, batch), expected)


@pytest.mark.parametrize("part", ["model", "backbone"])
def test_a_model_off_the_interface_is_refused(part: str) -> None:
    model: ExplainedModel = deberta()
    refusal = pytest.raises(ValueError, match=r"DebertaV2.*not on transformers' attention")
    with registrations_restored(), refusal, edit_attention(getattr(model, part), identity):
        pass


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(n_head=2, n_layer=1, **SIZES),
        XLNetConfig(d_model=16, n_head=2, n_layer=1, d_inner=32, vocab_size=50),
    ],
    ids=["bloom", "xlnet"],
)
def test_other_models_off_the_interface_are_refused_with_the_way_out(config: PreTrainedConfig) -> None:
    model = AutoModelForSequenceClassification.from_config(config)
    refusal = pytest.raises(ValueError, match=r"(Bloom|XLNet).*not on transformers' attention.*Use a method that needs")
    with registrations_restored(), refusal, edit_attention_weights(model, lambda module, weights: weights):
        pass


# Maps


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_that_are_read_or_given_back_equal_reproduce_logits_of_a_padded_batch(family: str, side: str) -> None:
    model = double(family)
    batch = batch_of(model, side=side)
    expected = logits_of(model, batch)
    for edit in (lambda module, weights: weights, lambda module, weights: weights.clone()):
        with edit_attention_weights(model.model, edit):
            assert torch.allclose(logits_of(model, batch), expected, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_probabilities_that_never_look_at_padding_or_ahead(family: str) -> None:
    model = explained(family)
    batch = batch_of(model)
    maps: list[Tensor] = []
    with edit_attention_weights(model.model, lambda module, weights: maps.append(weights) or weights):
        logits_of(model, batch)
    real = batch.attention_mask.bool()
    for weights in maps[: len(model.layers)]:
        assert torch.allclose(weights.sum(dim=-1), torch.ones(()), atol=1e-5)
        assert (weights.movedim(1, -1)[real[:, :, None] & ~real[:, None, :]] == 0).all()
        if model.is_causal:
            assert (weights.triu(1).movedim(1, -1)[real] == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_edited_maps_change_logits_and_leaving_restores_them(family: str) -> None:
    model = explained(family)
    batch = batch_of(model)
    before = logits_of(model, batch)
    halve = edit_attention_weights(model.model, lambda module, weights: weights / 2)
    with bit_equal_logits(model), registrations_restored(), halve:
        assert not torch.allclose(logits_of(model, batch), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_the_maps_that_are_read(family: str) -> None:
    model = explained(family)
    maps: list[Tensor] = []

    def read(module: nn.Module, weights: Tensor) -> Tensor:
        maps.append(weights)
        return weights

    with edit_attention_weights(model.model, read):
        logits = logits_of(model, batch_of(model), edit=lambda embeddings: embeddings.detach().requires_grad_())
    gradients = torch.autograd.grad(logits[:, 0].sum(), maps[: len(model.layers)])
    assert all((gradient != 0).any() for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_maps_in_half_precision_are_finite_on_padding_and_change_nothing(family: str, dtype: torch.dtype) -> None:
    model, maps = fresh(family).to(dtype), []
    batch = batch_of(model)
    expected = logits_of(model, batch)
    with edit_attention_weights(model.model, lambda module, weights: maps.append(weights) or weights):
        found = logits_of(model, batch)
    assert all(weights.isfinite().all() for weights in maps)
    assert relative_error(found, expected) < 32 * torch.finfo(dtype).eps
