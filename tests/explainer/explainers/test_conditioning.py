"""The extra position: right after the last token, or in its place where the model is full."""

import pytest
import torch

from explainer.explained import Target, Tokens
from explainer.explained.batch import collate
from explainer.explainers.conditioning import ClassConditioning, like_words
from tests.explainer.tools import batch_of
from tests.families import FAMILIES, TEXTS, explained

TARGET = Target.of([0, 1, 2, 0])


def conditioning(family: str = "bert") -> ClassConditioning:
    module = like_words(explained(family), explained(family))
    assert isinstance(module, ClassConditioning)
    torch.nn.init.normal_(module.shared)
    return module


def test_vectors_are_the_sums_of_class_and_shared_embeddings() -> None:
    module = conditioning()
    for vector, c in zip(module(TARGET), TARGET.classes, strict=True):
        assert torch.equal(vector, module.classes[c] + module.shared)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_hot_rows_have_the_type_of_the_embeddings(dtype: torch.dtype) -> None:
    assert torch.equal(conditioning().to(dtype).one_hot(TARGET), torch.eye(3, dtype=dtype)[TARGET.classes])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_vector_stands_right_after_the_last_token(family: str) -> None:
    model, module = explained(family), conditioning(family)
    batch = batch_of(model)
    longer, put = module.join(model, batch, TARGET)
    assert longer.input_ids.shape[1] == batch.input_ids.shape[1] + 1
    words = model.embedding(longer.input_ids)
    edited = put(words)
    for i, length in enumerate(batch.attention_mask.sum(dim=1).tolist()):
        assert torch.allclose(edited[i, length], module(TARGET)[i])
        assert torch.equal(edited[i, :length], words[i, :length])
        assert torch.equal(edited[i, length + 1 :], words[i, length + 1 :])
        assert longer.attention_mask[i].tolist() == [1] * (length + 1) + [0] * (words.shape[1] - length - 1)
        assert not longer.scorable[i, length]
        assert torch.equal(longer.input_ids[i, :length], batch.input_ids[i, :length])


def test_in_a_full_text_it_takes_the_last_token_s_place() -> None:
    model, module = explained("bert"), conditioning()
    batch = batch_of(model, [" ".join(["fun"] * 38), TEXTS[0]])
    longer, put = module.join(model, batch, TARGET[:2])
    assert longer.attention_mask.sum(dim=1).tolist() == [40, 8]
    edited = put(model.embedding(longer.input_ids))
    assert torch.allclose(edited[0, 39], module(TARGET[:1])[0])
    assert not longer.scorable[:, -1].any()
    assert longer.scorable[0].sum() == 38


def test_token_types_get_a_column_too() -> None:
    model = explained("bert")
    longer, _ = conditioning().join(model, batch_of(model), TARGET)
    assert longer.token_type_ids is not None
    assert longer.token_type_ids.shape == longer.input_ids.shape


def test_hidden_tokens_stay_hidden_and_the_vector_is_seen() -> None:
    model = explained("bert")
    tokens = Tokens(torch.tensor([1, 7, 8, 3])).concealed(torch.tensor([False, True, False, False]))
    longer, _ = conditioning().join(model, collate([tokens], pad_token_id=0), TARGET[:1])
    assert longer.hidden is not None
    assert longer.hidden.tolist() == [[False, True, False, False, False]]


def test_gradients_reach_classes_and_shared() -> None:
    model, module = explained("bert"), conditioning()
    longer, put = module.join(model, batch_of(model), Target.of([0, 1, 1, 0]))
    put(model.embedding(longer.input_ids)).pow(2).sum().backward()
    assert module.shared.grad is not None
    assert module.classes.grad is not None
    assert module.classes.grad.abs().sum(dim=1).bool().tolist() == [True, True, False]
