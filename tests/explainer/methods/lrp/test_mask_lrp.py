"""Mask-LRP against Chefer et al.'s relevance propagated by hand, and what a head mask does and does not change."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from explainer.attention_heads import HeadMask
from explainer.explained import ExplainedModel, Target
from explainer.methods import AttnLRP, MaskLRP
from explainer.methods.attention.weights import rollout, scores_read, weights_and_gradients
from explainer.methods.lrp.mask_lrp import relevance_at_attention
from tests.explainer.tools import batch_of, bit_equal_logits, deberta, double, predicted, relative_error
from tests.families import EXPERTS, FAMILIES, TEXTS, explained, tokenizer

# Relevance rules (Chefer et al., CVPR 2021), on float64 matrices (tokens, width), by loops and without any autograd.


def linear(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """z+ parts of one row: what x_i w_ji puts positively into output j, over all such parts."""
    result = torch.zeros_like(x)
    for t, j in itertools.product(range(len(x)), range(len(weight))):
        parts = (x[t] * weight[j]).clamp(min=0)  # both positive or both negative
        if parts.sum() > 0:
            result[t] += parts / parts.sum() * relevance[t, j]
    return result


def added(one: Tensor, other: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """In proportion, then each branch's total by equation 10."""
    parts = one / (one + other) * relevance, other / (one + other) * relevance
    totals = [float(part.sum()) for part in parts]
    shares = [abs(total) / (abs(totals[0]) + abs(totals[1])) * float(relevance.sum()) for total in totals]
    first, second = (part * share / total for part, share, total in zip(parts, shares, totals, strict=True))
    return first, second


def matrix_product(left: Tensor, right: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Each entry a_ik b_kj in proportion to its sum over k; half of it to each side."""
    at_left, at_right = torch.zeros_like(left), torch.zeros_like(right)
    product = left @ right
    for i, j, k in itertools.product(range(len(left)), range(right.shape[1]), range(len(right))):
        part = left[i, k] * right[k, j] / product[i, j] * relevance[i, j] / 2
        at_left[i, k] += part
        at_right[k, j] += part
    return at_left, at_right


class Bert:
    """A BERT forward and its relevance backward, written out for one text."""

    def __init__(self, model: BertForSequenceClassification, ids: Tensor, mask: Tensor) -> None:
        self.model, self.mask = model, mask
        embeddings = model.bert.embeddings
        others = embeddings.position_embeddings.weight[: len(ids)] + embeddings.token_type_embeddings.weight[0]
        self.embedded = embeddings.LayerNorm(embeddings.word_embeddings.weight[ids] + others)

    def relevances(self, target: int) -> list[Tensor]:
        """(heads, tokens, tokens) at the attention weights of each layer."""
        backwards, x = [], self.embedded
        for layer, kept in zip(self.model.bert.encoder.layer, self.mask, strict=True):
            x, backward = self.layer(layer, kept, x)
            backwards.append(backward)
        pooled = self.model.bert.pooler.dense(x[:1]).tanh()
        start = torch.eye(len(self.model.classifier.weight), dtype=x.dtype)[target : target + 1]
        at_pooled = linear(pooled, self.model.classifier.weight, start)  # tanh passes it through
        relevance = torch.zeros_like(x)
        relevance[:1] = linear(x[:1], self.model.bert.pooler.dense.weight, at_pooled)
        at_attention = []
        for backward in reversed(backwards):
            relevance, at_weights = backward(relevance)
            at_attention.insert(0, at_weights)
        return at_attention

    def layer(self, layer: Any, kept: Tensor, x: Tensor) -> tuple[Tensor, Any]:
        mixed, attention_backward = self.attention(layer.attention.self, kept, x)
        attended = layer.attention.output.dense(mixed)
        middle = layer.attention.output.LayerNorm(attended + x)
        active = nn.functional.gelu(layer.intermediate.dense(middle))
        outer = layer.output.dense(active)

        def backward(relevance: Tensor) -> tuple[Tensor, Tensor]:
            at_outer, at_middle = added(outer, middle, relevance)  # the norm passes it through
            at_active = linear(active, layer.output.dense.weight, at_outer)
            at_middle = at_middle + linear(middle, layer.intermediate.dense.weight, at_active)
            at_attended, at_x = added(attended, x, at_middle)
            at_mixed = linear(mixed, layer.attention.output.dense.weight, at_attended)
            through, at_weights = attention_backward(at_mixed)
            return at_x + through, at_weights

        return layer.output.LayerNorm(outer + middle), backward

    def attention(self, attention: Any, kept: Tensor, x: Tensor) -> tuple[Tensor, Any]:
        parts = [attention.query, attention.key, attention.value]
        query, key, value = (part(x) for part in parts)
        width = attention.attention_head_size
        heads = [slice(start, start + width) for start in range(0, query.shape[1], width)]
        attention_weights = [(query[:, h] @ key[:, h].T / width**0.5).softmax(dim=-1) for h in heads]

        def backward(relevance: Tensor) -> tuple[Tensor, Tensor]:
            at, at_weights = [torch.zeros_like(x) for _ in parts], []
            for weights, h, factor in zip(attention_weights, heads, kept, strict=True):
                at_weights.append(matrix_product(weights, value[:, h], relevance[:, h])[0])
                masked = relevance[:, h] * factor  # equation of the head mask: only what flows further down
                at_scores, at[2][:, h] = matrix_product(weights, value[:, h], masked)
                at[0][:, h], at_key = matrix_product(query[:, h], key[:, h].T, at_scores)
                at[1][:, h] = at_key.T
            through = sum(linear(x, p.weight, r) for p, r in zip(parts, at, strict=True))
            return torch.as_tensor(through), torch.stack(at_weights)

        return torch.cat([w @ value[:, h] for w, h in zip(attention_weights, heads, strict=True)], dim=1), backward


def bert(layers: int) -> ExplainedModel:
    words = tokenizer("encoder")
    sizes = {"hidden_size": 12, "num_attention_heads": 3, "num_hidden_layers": layers, "intermediate_size": 10}
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(vocab_size=len(words), num_labels=3, max_position_embeddings=40, **sizes)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)  # biases and norms' weights as well
    return ExplainedModel(model, words).double()


MASKS = {
    "all kept": [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]],
    "some kept": [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]],
    "by halves": [[0.5, 1.0, 0.0], [1.0, 0.5, 0.25]],
}


@pytest.mark.parametrize("foil", [None, 0])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("layers", [1, 2])
def test_relevance_at_the_attention_is_the_paper_s_propagated_by_hand(layers: int, mask: str, foil: int | None) -> None:
    """A foil does not change it."""
    model = bert(layers)
    kept = torch.tensor(MASKS[mask][:layers], dtype=torch.float64)
    for text, target in ((TEXTS[0], 1), (TEXTS[2], 2)):
        batch = batch_of(model, [text])
        with torch.no_grad():
            expected = Bert(model.model, batch.input_ids[0], kept).relevances(target)
        against = None if foil is None else [foil]
        relevances = relevance_at_attention(model, batch, Target.of([target], against), kept)
        for one, other in zip(relevances, expected, strict=True):
            assert relative_error(one[0], other) < 1e-5


@pytest.mark.parametrize("foil", [None, 2])
@pytest.mark.parametrize("layers", [1, 2])
def test_scores_are_the_gradient_weighted_rollout_of_that_relevance(
    layers: int, foil: int | None, tmp_path: Path
) -> None:
    model = bert(layers)
    mask = MASKS["some kept"][:layers]
    HeadMask(mask).save(tmp_path / "heads.json")
    batch = batch_of(model, TEXTS[:1])
    gradients = plain_gradients(model, batch, 1, foil)
    with torch.no_grad():
        relevances = Bert(model.model, batch.input_ids[0], torch.tensor(mask)).relevances(1)
    product = torch.eye(batch.input_ids.shape[1], dtype=torch.float64)
    for slope, relevance in zip(gradients, relevances, strict=True):
        weighted = (slope * relevance).clamp(min=0).mean(dim=0) + torch.eye(len(product))
        product = weighted / weighted.sum(dim=-1, keepdim=True) @ product
    expected = product[0].masked_fill(~batch.scorable[0], 0.0)
    scores = MaskLRP(heads=str(tmp_path / "heads.json")).scores(
        model, batch, Target.of([1], None if foil is None else [foil])
    )
    assert relative_error(scores[0], expected) < 1e-5


def test_relevance_of_a_text_does_not_depend_on_its_company() -> None:
    model = bert(2)
    batch, target = batch_of(model), torch.tensor([i % 3 for i in range(len(TEXTS))])
    together = relevance_at_attention(model, batch, Target.of(target))
    for i, one in enumerate(batch.unbatched()):
        for own, all_ in zip(relevance_at_attention(model, one, Target.of(target[i : i + 1])), together, strict=True):
            n = own.shape[-1]
            assert relative_error(all_[i, :, :n, :n], own[0]) < 1e-5
            assert (all_[i, :, :, n:] == 0).all()


@pytest.mark.parametrize(("family", "place"), [("gpt2", -1), ("t5", -2)])
def test_the_stream_of_the_token_that_a_decoder_reads_is_left_out(family: str, place: int) -> None:
    """What went through no attention: the product of the normalised identities at that token."""
    model = double(family)
    batch, target = batch_of(model, TEXTS[:1]), Target.of([1])
    slopes, relevances = weights_and_gradients(model, batch, target)[1], relevance_at_attention(model, batch, target)
    weighted = [(g * r).clamp(min=0).mean(dim=1) for g, r in zip(slopes, relevances, strict=True)]
    of_decoder = weighted if family == "gpt2" else weighted[model.depth :]
    stream = math.prod(1 / (1 + float(layer[0, -1].sum())) for layer in of_decoder)
    left_out = scores_read(model, batch, *rollout(weighted, model.depth)) - MaskLRP().scores(model, batch, target)
    assert float(left_out[0, place]) == pytest.approx(stream, rel=1e-6)
    left_out[0, place] = 0
    assert left_out.abs().max() < 1e-9


def test_the_cost_is_that_of_its_passes() -> None:
    assert MaskLRP(rules="attn_lrp").forward_equivalents(9) == AttnLRP().forward_equivalents(9)
    gradient_pass, z_plus_pass = 1 + 2, 1 + 4
    assert MaskLRP().forward_equivalents(9) == gradient_pass + z_plus_pass


def plain_gradients(model: ExplainedModel, batch: Any, target: int, foil: int | None) -> list[Tensor]:
    """Through transformers' own eager attention and its output_attentions."""
    model.model.set_attn_implementation("eager")
    embeddings = model.model.bert.embeddings.word_embeddings(batch.input_ids).requires_grad_()
    output = model.model(inputs_embeds=embeddings, attention_mask=batch.attention_mask, output_attentions=True)
    value = output.logits[0, target] - (0.0 if foil is None else output.logits[0, foil])
    gradients = torch.autograd.grad(value, output.attentions)
    model.model.set_attn_implementation("sdpa")
    return [gradient[0] for gradient in gradients]


def mask_file(folder: Path, model: ExplainedModel, value: float) -> str:
    heads = model.model.config.get_text_config().num_attention_heads
    HeadMask([[value] * heads for _ in model.layers]).save(folder / "heads.json")
    return str(folder / "heads.json")


@pytest.mark.parametrize("rules", ["chefer", "attn_lrp"])
@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in EXPERTS])
def test_every_head_kept_is_unmasked_to_the_bit(family: str, rules: Any, tmp_path: Path) -> None:
    model = explained(family)
    batch = batch_of(model)
    target = predicted(model, batch)
    kept = MaskLRP(rules=rules, heads=mask_file(tmp_path, model, 1.0)).scores(model, batch, target)
    assert torch.equal(kept, MaskLRP(rules=rules).scores(model, batch, target))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_head_kept_on_attn_lrp_s_rules_is_attn_lrp(family: str, tmp_path: Path) -> None:
    model = explained(family)
    batch = batch_of(model)
    target = predicted(model, batch)
    expected = AttnLRP().scores(model, batch, target)
    assert torch.equal(MaskLRP(rules="attn_lrp").scores(model, batch, target), expected)
    with_file = MaskLRP(rules="attn_lrp", heads=mask_file(tmp_path, model, 1.0))
    assert torch.equal(with_file.scores(model, batch, target), expected)


@pytest.mark.parametrize("rules", ["chefer", "attn_lrp"])
@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_with_no_head_kept_the_scores_are_others(family: str, rules: Any, tmp_path: Path) -> None:
    model = explained(family)
    batch = batch_of(model)
    target = predicted(model, batch)
    with bit_equal_logits(model):
        closed = MaskLRP(rules=rules, heads=mask_file(tmp_path, model, 0.0)).scores(model, batch, target)
    assert relative_error(closed, MaskLRP(rules=rules).scores(model, batch, target)) > 1e-5


def test_with_no_head_kept_attn_lrp_leaves_an_encoder_s_tokens_nothing(tmp_path: Path) -> None:
    """The CLS row's own stream holds no other token."""
    model = explained("bert")
    batch = batch_of(model)
    closed = MaskLRP(rules="attn_lrp", heads=mask_file(tmp_path, model, 0.0))
    assert (closed.scores(model, batch, predicted(model, batch)) == 0).all()


def test_the_topmost_layer_s_relevance_does_not_change_with_the_mask() -> None:
    """Only what flows further down is masked."""
    model = double("bert")
    batch = batch_of(model)
    target = predicted(model, batch)
    one, other = (relevance_at_attention(model, batch, target, torch.full((2, 2), value)) for value in (1.0, 0.0))
    assert torch.equal(one[1], other[1])
    assert relative_error(one[0], other[0]) > 1e-3


def test_a_mixture_of_experts_is_refused_with_the_way_out() -> None:
    model = explained("mixtral")
    batch = batch_of(model)
    with bit_equal_logits(model), pytest.raises(ValueError, match=r"`rules='chefer'` has no rule.*`rules='attn_lrp'`"):
        MaskLRP().scores(model, batch, predicted(model, batch))


@pytest.mark.parametrize("rules", ["chefer", "attn_lrp"])
def test_a_model_off_the_attention_interface_is_refused_with_the_way_out(rules: Any) -> None:
    model = deberta()
    with pytest.raises(ValueError, match=r"DebertaV2ForSequenceClassification.*`leave_one_out`"):
        MaskLRP(rules=rules).scores(model, batch_of(model), Target.of([0] * len(TEXTS)))


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="`rules` must be chefer or attn_lrp, got 'lxt'"):
        MaskLRP(rules="lxt")


def test_a_mask_of_another_shape_is_refused(tmp_path: Path) -> None:
    HeadMask([[1.0, 0.0, 1.0]], model="another").save(tmp_path / "heads.json")
    model = explained("bert")
    with pytest.raises(ValueError, match=r"`heads` was made for another, of 1 layers of 3 heads; this model"):
        MaskLRP(heads=str(tmp_path / "heads.json")).scores(model, batch_of(model), Target.of([0] * 4))


def test_quantised_weights_have_no_z_plus_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = explained("bert")
    monkeypatch.setattr(model.model, "is_quantized", True, raising=False)
    texts = model.encode(TEXTS[:1])
    with pytest.raises(
        ValueError, match="this model's are quantised: load it without quantisation, or take `attn_lrp`"
    ):
        MaskLRP().attribute(model, texts, Target.of([0]))
    MaskLRP(rules="attn_lrp").attribute(model, texts, Target.of([0]))
