"""Perturbation: ranks and ties, blending at its ends, and curves against a naive loop."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explainer.explained import EncodedText, ExplainedModel
from explainer.faithfulness.perturbation import (
    PERCENTS,
    Kind,
    Plan,
    blank,
    blend,
    curves,
    joined,
    keep,
    remove,
    replace,
    top_k,
)
from tests.explainer.tools import batch_of, double, encoded, relative_error
from tests.families import FAMILIES, explained

TARGET = torch.tensor([0, 1, 2, 0])
EVERY: tuple[Kind, ...] = ("removed", "kept", "replaced", "blanked", "blanked_least")


def all_baseline(model: ExplainedModel) -> torch.Tensor:
    rows = [text.tokens.replaced(text.scorable, model.baseline_token_id) for text in encoded(model)]
    return model.predict(rows)


def scores_for(texts: list[EncodedText]) -> list[torch.Tensor]:
    return [torch.randn(len(text)) for text in texts]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), min_size=1, max_size=10), st.integers(0, 12))
def test_top_k_takes_the_highest_scorable_ties_by_position(tokens: list[tuple[int, bool]], k: int) -> None:
    scores = torch.tensor([float(score) for score, _ in tokens])
    scorable = torch.tensor([ok for _, ok in tokens])
    ranked = sorted((i for i, (_, ok) in enumerate(tokens) if ok), key=lambda i: (-tokens[i][0], i))
    assert top_k(scores, scorable, k).nonzero()[:, 0].tolist() == sorted(ranked[:k])


def test_top_k_refuses_nan_at_a_scorable_token_only() -> None:
    scores = torch.tensor([torch.nan, 1.0, 2.0])
    assert top_k(scores, torch.tensor([False, True, True]), 1).tolist() == [False, False, True]
    with pytest.raises(ValueError, match="`scores` holds NaN"):
        top_k(scores, torch.tensor([True, True, True]), 1)


def test_infinite_scores_rank_above_specials() -> None:
    scores = torch.tensor([9.0, -torch.inf, -torch.inf, 1.0])
    scorable = torch.tensor([False, True, True, True])
    assert top_k(scores, scorable, 2).tolist() == [False, True, False, True]


@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_remove_keep_and_replace_leave_specials_alone(family: str) -> None:
    model = explained(family)
    text = encoded(model)[1]
    everything = torch.ones(len(text), dtype=torch.bool)
    special = text.tokens.input_ids[~text.scorable].tolist()
    assert remove(text, everything).input_ids.tolist() == special
    assert keep(text, ~everything).input_ids.tolist() == special
    assert torch.equal(keep(text, everything).input_ids, text.tokens.input_ids)
    assert torch.equal(remove(text, ~everything).input_ids, text.tokens.input_ids)
    replaced = replace(text, everything, model.baseline_token_id)
    assert (replaced.input_ids == model.baseline_token_id).tolist() == text.scorable.tolist()
    assert torch.equal(replaced.input_ids[~text.scorable], text.tokens.input_ids[~text.scorable])


def test_remove_and_keep_of_one_mask_share_the_text() -> None:
    text = explained("bert").encode(["the film"], ["was good"])[0]
    mask = torch.tensor([True, True, False, False, True, False, False])
    decode = explained("bert").tokenizer.convert_ids_to_tokens
    assert decode(remove(text, mask).input_ids.tolist()) == ["[CLS]", "film", "[SEP]", "good", "[SEP]"]
    assert decode(keep(text, mask).input_ids.tolist()) == ["[CLS]", "the", "[SEP]", "was", "[SEP]"]
    types = remove(text, mask).token_type_ids
    assert types is not None
    assert types.tolist() == [0, 0, 0, 1, 1]


# Blending


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_of_ones_gives_the_original_logits(family: str, side: str) -> None:
    model = double(family)
    batch = batch_of(model, side=side)
    edit = blend(batch, torch.ones(batch.input_ids.shape), model.baseline_embedding())
    assert relative_error(model(batch, edit=edit), model(batch)) < 1e-6


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_mask_of_zeros_gives_the_logits_of_baseline_tokens(family: str, side: str) -> None:
    model = double(family)
    batch = batch_of(model, side=side)
    edit = blend(batch, torch.zeros(batch.input_ids.shape), model.baseline_embedding())
    assert relative_error(model(batch, edit=edit), all_baseline(model)) < 1e-6


def test_amounts_at_specials_and_padding_change_nothing() -> None:
    model = explained("bert")
    batch = batch_of(model)
    amounts = torch.rand(batch.input_ids.shape)
    other = torch.where(batch.scorable, amounts, torch.rand(amounts.shape))
    logits = [model(batch, edit=blend(batch, a, model.baseline_embedding())) for a in (amounts, other)]
    assert torch.equal(*logits)


def test_half_a_mask_is_half_way() -> None:
    model = explained("bert")
    batch = batch_of(model)
    words, baseline = model.embedding(batch.input_ids), model.baseline_embedding()
    found = blend(batch, torch.full(batch.input_ids.shape, 0.5), baseline)(words)
    expected = torch.where(batch.scorable[..., None], (words + baseline) / 2, words)
    assert torch.allclose(found, expected, atol=1e-6)


def test_gradients_reach_the_amounts_of_scorable_tokens() -> None:
    model = explained("llama")
    batch = batch_of(model)
    amounts = torch.full(batch.input_ids.shape, 0.5, requires_grad=True)
    model(batch, edit=blend(batch, amounts, model.baseline_embedding())).pow(2).sum().backward()
    assert amounts.grad is not None
    assert ((amounts.grad != 0) == batch.scorable).all()


# Curves


@pytest.mark.parametrize("family", FAMILIES)
def test_curves_equal_a_naive_loop_a_text(family: str) -> None:
    model = double(family)
    texts = encoded(model)
    scores = scores_for(texts)
    curve = curves(model, texts, scores, TARGET)
    parts = {"removed": curve.removed, "kept": curve.kept, "replaced": curve.replaced}
    for i, text in enumerate(texts):
        c, ids = TARGET[i], text.tokens.input_ids.tolist()
        ranked = sorted(text.scorable.nonzero()[:, 0].tolist(), key=lambda j: (-scores[i][j].item(), j))

        def probability(row: list[int], c: torch.Tensor = c) -> float:
            return model.model(input_ids=torch.tensor([row])).logits[0].softmax(dim=-1)[c].item()

        assert curve.whole[i].item() == pytest.approx(probability(ids), abs=1e-5)
        for column, percent in enumerate(PERCENTS):
            k = int(len(ranked) * percent / 100)
            top = set(ranked[:k])
            rows = {
                "removed": [t for j, t in enumerate(ids) if j not in top],
                "kept": [t for j, t in enumerate(ids) if j in top or not text.scorable[j]],
                "replaced": [model.baseline_token_id if j in top else t for j, t in enumerate(ids)],
            }
            for name, row in rows.items():
                expected = probability(row if k else ids)
                assert parts[name][i, column].item() == pytest.approx(expected, abs=1e-5)


def test_where_k_is_0_nothing_is_perturbed() -> None:
    model = explained("bert")
    texts = encoded(model, ["bad", "", "fun"])
    curve = curves(model, texts, scores_for(texts), torch.tensor([0, 1, 2]), dict.fromkeys(EVERY, (20.0, 50.0)))
    for kind in EVERY:
        assert torch.equal(curve.probability(kind), curve.whole[:, None].expand(3, 2))


def test_keeping_all_is_the_whole_text_to_the_bit() -> None:
    model = explained("bert")
    texts = encoded(model)
    curve = curves(model, texts, scores_for(texts), TARGET, {"removed": (100.0,), "kept": (100.0,)})
    assert torch.equal(curve.kept[:, 0], curve.whole)
    assert not torch.equal(curve.removed[:, 0], curve.whole)


def test_tied_scores_are_removed_from_the_front() -> None:
    model = explained("bert")
    texts = encoded(model)
    zeros = [torch.zeros(len(text)) for text in texts]
    falling = [-torch.arange(len(text)).float() for text in texts]
    found, expected = (curves(model, texts, scores, TARGET) for scores in (zeros, falling))
    assert torch.equal(found.removed, expected.removed)


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_blanking_is_a_mask_of_zeros_over_the_embeddings(family: str) -> None:
    model = double(family)
    texts = encoded(model)
    scores = scores_for(texts)
    curve = curves(model, texts, scores, TARGET, {"blanked": (50.0,), "blanked_least": (50.0,)})
    for i, (text, score) in enumerate(zip(texts, scores, strict=True)):
        for sign, kind in ((1, "blanked"), (-1, "blanked_least")):
            amounts = (~top_k(sign * score, text.scorable, text.n_scorable // 2)).float()[None]
            batch = model.collate([text])
            zero = torch.zeros_like(model.baseline_embedding())
            logit = model(batch, edit=blend(batch, amounts, zero))[0, TARGET[i]]
            assert curve.logit(kind)[i, 1].item() == pytest.approx(logit.item(), abs=1e-5)  # type: ignore[arg-type]


def test_all_blanked_is_the_same_from_either_end() -> None:
    model = explained("bert")
    texts = encoded(model)
    curve = curves(model, texts, scores_for(texts), TARGET, {"blanked": (50.0, 100.0), "blanked_least": (50.0, 100.0)})
    assert torch.equal(curve.logit("blanked")[:, [0, 2]], curve.logit("blanked_least")[:, [0, 2]])
    assert not torch.equal(curve.logit("blanked")[:, 1], curve.logit("blanked_least")[:, 1])


def test_blank_leaves_specials_alone() -> None:
    text = encoded(explained("bert"))[1]
    zeroed = blank(text, torch.ones(len(text), dtype=torch.bool)).zeroed
    assert zeroed is not None
    assert torch.equal(zeroed, text.scorable)


def test_logits_and_probabilities_are_of_the_target() -> None:
    model = explained("bert")
    texts = encoded(model)
    curve = curves(model, texts, scores_for(texts), TARGET, {"kept": (100.0,)})
    logits = model.predict([text.tokens for text in texts])
    rows = torch.arange(len(texts))
    assert torch.equal(curve.logit("kept"), logits[rows, TARGET][:, None].expand(-1, 2))
    assert torch.equal(curve.whole, logits.softmax(dim=-1)[rows, TARGET])


def test_columns_are_found_by_kind_and_percent() -> None:
    model = explained("bert")
    texts = encoded(model)
    scores = scores_for(texts)
    curve = curves(model, texts, scores, TARGET, {"kept": (50.0, 20.0), "removed": (20.0,)})
    for kind, percent in (("kept", 20.0), ("kept", 50.0), ("removed", 20.0)):
        alone = curves(model, texts, scores, TARGET, {kind: (percent,)})  # type: ignore[dict-item]
        found = curve.probability(kind, (percent,))  # type: ignore[arg-type]
        assert torch.allclose(found, alone.probabilities[:, 1:], atol=1e-6)
    with pytest.raises(ValueError, match=r"`percents` of 'removed' must be of \(20.0,\), got \[33.0\]"):
        curve.probability("removed", (20.0, 33.0))
    with pytest.raises(ValueError, match=r"`percents` of 'blanked' must be of \(\)"):
        curve.probability("blanked", (20.0,))


def test_joined_plans_have_every_percent_once() -> None:
    plans: list[Plan] = [{"kept": (20.0, 50.0)}, {"removed": (5.0,), "kept": (1.0, 20.0)}]
    assert joined(plans) == {"kept": (1.0, 20.0, 50.0), "removed": (5.0,)}
    assert joined([]) == {}


@pytest.mark.parametrize("n", [1, 2, 7, 9, 18, 26, 45])
def test_ninths_of_the_tokens_are_counted_exactly(n: int) -> None:
    model = explained("bert")
    texts = model.encode([" ".join(["a"] * min(n, 36))])
    n = texts[0].n_scorable
    ranks = [torch.arange(len(texts[0])).float()]
    rows: list[int] = []
    predict = model.predict

    def spy(tokens: list) -> torch.Tensor:
        rows.extend(int((row.input_ids == model.baseline_token_id).sum()) for row in tokens)
        return predict(tokens)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "predict", spy)
        curves(model, texts, ranks, TARGET[:1], {"replaced": tuple(100 * step / 9 for step in range(1, 10))})
    assert rows[1:] == [n * step // 9 for step in range(1, 10)]


def test_scores_of_another_length_are_refused_with_the_text_s_index() -> None:
    model = explained("bert")
    texts = encoded(model)
    scores = scores_for(texts)
    scores[2] = torch.zeros(9)
    with pytest.raises(ValueError, match=r"`scores\[2\]` has 9 entries, the text has 3 tokens"):
        curves(model, texts, scores, TARGET)


def test_nan_scores_are_refused() -> None:
    model = explained("bert")
    texts = encoded(model)
    with pytest.raises(ValueError, match="NaN"):
        curves(model, texts, [torch.full((len(text),), torch.nan) for text in texts], TARGET)
