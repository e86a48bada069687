"""The label's extra position: right after the last token, or in its place where the model is full."""

import pytest
import torch

from explainer.explainers.conditioning import LabelEmbedding
from tests.explainer.tools import batch_of
from tests.families import FAMILIES, TEXTS, explained


def label(family: str = "bert") -> LabelEmbedding:
    embedding = LabelEmbedding.like_words(explained(family))
    torch.nn.init.normal_(embedding.shared)
    return embedding


def test_vectors_are_the_weighted_sum_of_class_and_shared_embeddings() -> None:
    embedding = label()
    weights = torch.tensor([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]])
    expected = [sum(w * (embedding.classes[c] + embedding.shared) for c, w in enumerate(row)) for row in weights]
    assert torch.allclose(embedding(weights), torch.stack(expected), atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_vector_stands_right_after_the_last_token(family: str) -> None:
    model, embedding = explained(family), label(family)
    batch = batch_of(model)
    weights = torch.eye(3)[[0, 1, 2, 0]]
    longer, put = embedding.join(model, batch, weights)
    assert longer.input_ids.shape[1] == batch.input_ids.shape[1] + 1
    words = model.embedding(longer.input_ids)
    edited = put(words)
    for i, length in enumerate(batch.attention_mask.sum(dim=1).tolist()):
        assert torch.allclose(edited[i, length], embedding(weights)[i])
        assert torch.equal(edited[i, :length], words[i, :length])
        assert torch.equal(edited[i, length + 1 :], words[i, length + 1 :])
        assert longer.attention_mask[i].tolist() == [1] * (length + 1) + [0] * (words.shape[1] - length - 1)
        assert not longer.scorable[i, length]
        assert torch.equal(longer.input_ids[i, :length], batch.input_ids[i, :length])


def test_in_a_full_text_it_takes_the_last_token_s_place() -> None:
    model, embedding = explained("bert"), label()
    batch = batch_of(model, [" ".join(["fun"] * 38), TEXTS[0]])
    longer, put = embedding.join(model, batch, torch.eye(3)[[0, 1]])
    assert longer.attention_mask.sum(dim=1).tolist() == [40, 8]
    edited = put(model.embedding(longer.input_ids))
    assert torch.allclose(edited[0, 39], embedding(torch.eye(3)[[0]])[0])
    assert not longer.scorable[:, -1].any()
    assert longer.scorable[0].sum() == 38


def test_token_types_get_a_column_too() -> None:
    model = explained("bert")
    longer, _ = label().join(model, batch_of(model), torch.eye(3)[[0, 1, 2, 0]])
    assert longer.token_type_ids is not None
    assert longer.token_type_ids.shape == longer.input_ids.shape


def test_gradients_reach_classes_and_shared() -> None:
    model, embedding = explained("bert"), label()
    longer, put = embedding.join(model, batch_of(model), torch.eye(3)[[0, 1, 1, 0]])
    put(model.embedding(longer.input_ids)).pow(2).sum().backward()
    assert embedding.shared.grad is not None
    assert embedding.classes.grad is not None
    assert embedding.classes.grad.abs().sum(dim=1).bool().tolist() == [True, True, False]
