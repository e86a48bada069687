"""AttnLRP against the paper's relevance rules, propagated by hand, and the conservation of relevance."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from explainer.explained import ExplainedModel, Target, TokenBatch, edit_attention
from explainer.methods import AttnLRP
from explainer.methods.base import gradient_times_input
from explainer.methods.lrp import lrp_rules
from tests.explainer.tools import batch_of, deberta, double, predicted, relative_error
from tests.families import TEXTS, tokenizer

# Relevance rules (Achtibat et al., ICML 2024), on float64 matrices (tokens, hidden) without any autograd.


def linear(x: Tensor, weight: Tensor, output: Tensor, relevance: Tensor) -> Tensor:
    """Epsilon rule (equation 8): R_i = sum_j x_i W_ji R_j / y_j; a bias keeps its share."""
    return x * ((relevance / output) @ weight)


def added(one: Tensor, other: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """A sum's relevance in proportion to its terms."""
    return one / (one + other) * relevance, other / (one + other) * relevance


def layer_norm(norm: nn.LayerNorm, x: Tensor, relevance: Tensor) -> Tensor:
    """Centring and scaling as a linear layer whose deviation is a constant (section 3.3.3)."""
    result = torch.zeros_like(x)
    for t, row in enumerate(x):
        deviation = (row.var(correction=0) + norm.eps).sqrt()
        weight = torch.diag(norm.weight / deviation) @ (torch.eye(len(row), dtype=x.dtype) - 1 / len(row))
        result[t] = linear(row, weight, weight @ row + norm.bias, relevance[t])
    return result


def matrix_product(left: Tensor, right: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 14: R(A_ij) = sum_p A_ij V_jp R(O_ip) / (2 O_ip), and the same for V: half to each side."""
    share = relevance / (2 * (left @ right))
    return left * (share @ right.T), right * (left.T @ share)


def softmax(x: Tensor, output: Tensor, relevance: Tensor) -> Tensor:
    """Deep Taylor decomposition at x (equation 13): R(x_i) = x_i (R_i - s_i sum_j R_j)."""
    return x * (relevance - output * relevance.sum(dim=-1, keepdim=True))


class OneLayerBert:
    """A one-layer BERT forward and its relevance backward, written out."""

    def __init__(self, model: BertForSequenceClassification, ids: Tensor) -> None:
        self.model, self.ids = model, ids
        self.layer = model.bert.encoder.layer[0]
        self.attention = self.layer.attention.self

    def word_relevance(self, target: int) -> Tensor:
        """(tokens, hidden): the relevance of the word embeddings for the target's logit."""
        embeddings, layer = self.model.bert.embeddings, self.layer
        words = embeddings.word_embeddings.weight[self.ids]
        others = embeddings.position_embeddings.weight[: len(self.ids)] + embeddings.token_type_embeddings.weight[0]
        x = embeddings.LayerNorm(words + others)
        mixed, attention_backward = self.self_attention(x)
        attended = layer.attention.output.dense(mixed)
        middle = layer.attention.output.LayerNorm(attended + x)
        inner = layer.intermediate.dense(middle)
        active = nn.functional.gelu(inner)
        outer = layer.output.dense(active)
        states = layer.output.LayerNorm(outer + middle)
        pooled_in = self.model.bert.pooler.dense(states[0])
        pooled = pooled_in.tanh()
        logits = self.model.classifier(pooled)

        start = torch.zeros_like(logits)
        start[target] = logits[target]
        relevance = torch.zeros_like(states)
        at_pooled = linear(pooled, self.model.classifier.weight, logits, start)  # tanh: identity rule
        relevance[0] = linear(states[0], self.model.bert.pooler.dense.weight, pooled_in, at_pooled)
        at_sum = layer_norm(layer.output.LayerNorm, outer + middle, relevance)
        at_outer, at_middle = added(outer, middle, at_sum)
        at_inner = linear(active, layer.output.dense.weight, outer, at_outer)  # gelu: identity rule
        at_middle = at_middle + linear(middle, layer.intermediate.dense.weight, inner, at_inner)
        at_sum = layer_norm(layer.attention.output.LayerNorm, attended + x, at_middle)
        at_attended, at_x = added(attended, x, at_sum)
        at_mixed = linear(mixed, layer.attention.output.dense.weight, attended, at_attended)
        at_x = at_x + attention_backward(at_mixed)
        at_words, _ = added(words, others, layer_norm(embeddings.LayerNorm, words + others, at_x))
        return at_words

    def self_attention(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        parts = [self.attention.query, self.attention.key, self.attention.value]
        query, key, value = (part(x) for part in parts)
        width = self.attention.attention_head_size
        heads = [slice(start, start + width) for start in range(0, query.shape[1], width)]
        scores = [query[:, h] @ key[:, h].T / width**0.5 for h in heads]
        output = torch.cat([s.softmax(dim=-1) @ value[:, h] for s, h in zip(scores, heads, strict=True)], dim=1)

        def backward(relevance: Tensor) -> Tensor:
            at = [torch.zeros_like(x) for _ in parts]
            for s, h in zip(scores, heads, strict=True):
                weights = s.softmax(dim=-1)
                at_weights, at[2][:, h] = matrix_product(weights, value[:, h], relevance[:, h])
                at_scores = softmax(s, weights, at_weights)
                at[0][:, h], at_key = matrix_product(query[:, h], key[:, h].T, at_scores)
                at[1][:, h] = at_key.T
            return sum(linear(x, p.weight, p(x), r) for p, r in zip(parts, at, strict=True))

        return output, backward


def one_layer_bert() -> ExplainedModel:
    words = tokenizer("encoder")
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": 1, "intermediate_size": 20}
    config = BertConfig(vocab_size=len(words), num_labels=3, max_position_embeddings=40, **sizes)
    torch.manual_seed(0)
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)  # biases and norms' weights as well
    return ExplainedModel(model, words).double()


@pytest.mark.parametrize("target", [0, 1, 2])
@pytest.mark.parametrize("text", TEXTS[:3])
def test_scores_are_the_paper_s_relevance_propagated_by_hand(text: str, target: int) -> None:
    model = one_layer_bert()
    batch = batch_of(model, [text])
    by_hand = OneLayerBert(model.model, batch.input_ids[0])
    with torch.no_grad():
        expected = by_hand.word_relevance(target).sum(dim=-1)
    scores = AttnLRP().scores(model, batch, Target.of([target]))[0]
    assert relative_error(scores[batch.scorable[0]], expected[batch.scorable[0]]) < 1e-6


def test_scores_are_not_gradient_times_input() -> None:
    model = one_layer_bert()
    batch = batch_of(model, TEXTS[:2])
    target = Target.of([0, 1])
    plain = gradient_times_input(model, batch, target)
    assert relative_error(AttnLRP().scores(model, batch, target), plain) > 0.1


# Conservation


def all_scorable(batch: TokenBatch) -> TokenBatch:
    """Special tokens scored as well: their relevance counts in the sum."""
    return replace(batch, scorable=batch.attention_mask.bool())


def relevance_of_all_tokens(model: ExplainedModel, batch: TokenBatch, target: Target) -> Tensor:
    with lrp_rules(model.model):
        return gradient_times_input(model, all_scorable(batch), target).double()


def kept_by_attention(model: ExplainedModel, batch: TokenBatch, target: Target) -> Tensor:
    """Relevance that every attention takes in less what it hands on to query, key and value, summed over layers.

    The softmax conserves no relevance (equation 13 leaves a bias term); all else in an unbiased model does.
    """
    kept = torch.zeros(len(batch), dtype=torch.float64)

    def tally(sign: int, tensor: Tensor) -> None:
        def add(gradient: Tensor) -> None:
            kept.add_(sign * (tensor.detach() * gradient).flatten(1).sum(dim=1))

        tensor.register_hook(add)

    def watch(attend: Any, module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        output, weights = attend(module, query, key, value, *args, **kwargs)
        tally(1, output)
        for tensor in (query, key, value):
            tally(-1, tensor)
        return output, weights

    with lrp_rules(model.model), edit_attention(model.model, watch):
        gradient_times_input(model, batch, target)
    return kept


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma"])
def test_relevance_is_conserved_outside_the_softmax_of_an_unbiased_model(family: str) -> None:
    model = double(family)
    batch = batch_of(model)
    target = predicted(model, batch)
    relevance = relevance_of_all_tokens(model, batch, target).sum(dim=1)
    kept = kept_by_attention(model, batch, target)
    assert (kept.abs() > 1e-3).any()
    assert torch.allclose(relevance + kept, model.objective(batch, target).double(), atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma"])
def test_relevance_is_conserved_where_attention_hands_nothing_on(family: str) -> None:
    """Norms, residuals, activations and gated products alone: the scores sum to the logit."""
    model = double(family)
    batch = batch_of(model)
    target = predicted(model, batch)

    def silent(attend: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        output, weights = attend(module, *args, **kwargs)
        return output * 0, weights

    with edit_attention(model.model, silent):
        relevance = relevance_of_all_tokens(model, batch, target).sum(dim=1)
        assert torch.allclose(relevance, model.objective(batch, target).double(), atol=1e-4)


def test_a_model_off_the_attention_interface_is_refused_with_the_way_out() -> None:
    model = deberta()
    batch = batch_of(model)
    with pytest.raises(ValueError, match=r"DebertaV2ForSequenceClassification.*`leave_one_out`"):
        AttnLRP().scores(model, batch, Target.of([0, 0, 0, 0]))


def test_the_cost_is_a_forward_and_a_backward() -> None:
    assert AttnLRP().forward_equivalents(30) == 3
