"""SIG: exact scores are replacement differences, and the quadrature converges to them at its order."""

import copy
import dataclasses
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from explainer.explained import ExplainedModel, Target
from explainer.methods import SIG
from tests.explainer.tools import deberta, double, encoded, relative_error
from tests.families import FAMILIES, TEXTS, explained


def scores(method: SIG, model: ExplainedModel, texts: list[str], target: Target) -> list[Tensor]:
    return list(method.attribute(model, encoded(model, texts), target).scores)


def replacement_differences(model: ExplainedModel, text: str, target: int) -> Tensor:
    """f_c(x) - f_c(x with token j replaced), one forward pass per token, without any of the package's batching."""
    encoding = encoded(model, [text])[0]
    ids = encoding.tokens.input_ids
    differences = torch.zeros(len(ids))
    for j in encoding.scorable.nonzero()[:, 0]:
        other = ids.clone()
        other[j] = model.baseline_token_id
        whole, without = (model.model(input_ids=row[None]).logits[0, target].item() for row in (ids, other))
        differences[j] = whole - without
    return differences


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_scores_are_replacement_differences(family: str) -> None:
    model = double(family)
    target = Target.of([0, 1, 2, 0])
    for text, exact, c in zip(TEXTS, scores(SIG(), model, TEXTS, target), target.classes.tolist(), strict=True):
        expected = replacement_differences(model, text, c)
        assert torch.allclose(exact, expected, atol=2e-6 * float(expected.abs().max()) + 1e-6, rtol=1e-4)


def assert_geometric(model: ExplainedModel, points: tuple[int, ...], baseline: str | None = None) -> None:
    """Gauss-Legendre on an analytic integrand: the error falls geometrically in the number of points."""

    def joined(method: SIG) -> Tensor:
        return torch.cat(scores(method, model, TEXTS[:2], Target.of([0, 1])))

    exact = joined(SIG(baseline=baseline))
    errors = [relative_error(joined(SIG(n_steps=n, baseline=baseline)), exact) for n in points]
    floor = 1e-5  # the exact scores are differences of float32 logits
    assert errors[0] > 100 * floor
    assert errors[-1] < floor
    for coarse, fine in pairwise(errors[1:]):
        assert fine < max(coarse / 4, floor)  # better than order 2 at each doubling


@pytest.mark.parametrize("family", FAMILIES)
def test_quadrature_converges_to_the_exact_scores_faster_than_any_fixed_order(family: str) -> None:
    sharp = family in ("t5", "qwen3", "qwen3_moe")  # unscaled attention, or a norm of queries and keys: sharp bends
    assert_geometric(double(family), (8, 32, 64, 128, 256) if sharp else (2, 4, 8, 16, 32))


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("baseline", ["mask", "pad", "unk", "zero", "fun"])
def test_it_converges_at_that_order_from_every_baseline(family: str, baseline: str) -> None:
    if family == "gpt2" and baseline in ("mask", "pad", "unk"):
        pytest.skip("refused: see below")
    assert_geometric(double(family), (2, 4, 8, 16, 32), baseline)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("baseline", ["zero", "unk", "fun"])
def test_exact_scores_start_from_the_baseline_s_embedding(family: str, baseline: str) -> None:
    """Edits of the embeddings, one per token, without the package's token replacement."""
    model = double(family)
    batch = model.collate(encoded(model, TEXTS[:1]))
    words = model.tokenizer
    if baseline == "unk" and words.unk_token == words.pad_token:
        pytest.skip("refused: see below")
    (piece,) = words.tokenize("fun")
    ids = torch.tensor([words.unk_token_id, words.convert_tokens_to_ids(piece)])
    unk, fun = model.embedding(ids)
    start = {"zero": torch.zeros_like(unk), "unk": unk, "fun": fun}
    named = piece if baseline == "fun" else baseline
    exact = scores(SIG(baseline=named), model, TEXTS[:1], Target.of([1]))[0]
    for j in batch.scorable[0].nonzero()[:, 0].tolist():
        here = (torch.arange(len(exact)) == j)[None, :, None]
        other = model(batch, edit=lambda e, here=here: torch.where(here, start[baseline].to(e.dtype), e))
        expected = (model(batch).logits - other.logits)[0, 0, 1].item()
        assert exact[j].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_baseline_is_the_explained_model_s_own(family: str) -> None:
    model = explained(family)
    token = model.tokenizer.convert_ids_to_tokens(model.baseline_token_id)
    target = model.predicted(encoded(model))
    named, default = (torch.cat(scores(method, model, TEXTS, target)) for method in (SIG(baseline=token), SIG()))
    assert torch.equal(named, default)


def test_padding_as_baseline_is_refused_where_it_would_move_something() -> None:
    pools, counts = "pools at the last token", "counts positions past it"
    for family, baseline, reason in (("llama", "pad", pools), ("gpt2", "unk", pools), ("roberta", "pad", counts)):
        for settings in ({}, {"n_steps": 2}):
            with pytest.raises(ValueError, match=rf"`baseline` '{baseline}'.*{reason}"):
                scores(SIG(baseline=baseline, **settings), explained(family), TEXTS[:1], Target.of([0]))


def test_a_baseline_that_the_tokenizer_lacks_is_refused() -> None:
    for baseline, reason in (("mask", "the tokenizer has none"), ("very good", "is not one token")):
        with pytest.raises(ValueError, match=rf"`baseline` '{baseline}'.*{reason}"):
            scores(SIG(baseline=baseline), explained("gpt2"), TEXTS[:1], Target.of([0]))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_dimensions_sum_to_the_exact_scores_but_for_the_delta(family: str) -> None:
    model, target = double(family), Target.of([0, 1])
    texts = encoded(model, TEXTS[:2])
    parts, deltas = SIG().attribute_dimensions(
        model, texts, target, n_steps=2, internal_batch_size=30, return_convergence_delta=True
    )
    again = SIG().attribute_dimensions(model, texts, target, 2, 30)
    exact = scores(SIG(), model, TEXTS[:2], target)
    for k, text in enumerate(texts):
        assert parts[k].shape == (len(text), model.embedding.weight.shape[1])
        assert (parts[k][~text.scorable] == 0).all()
        assert torch.allclose((parts[k].sum(dim=-1) - deltas[k]).float(), exact[k], atol=1e-6)
        assert torch.equal(again[k], parts[k])
    assert torch.cat(deltas).abs().max() > 1e-7


def test_the_dimensions_are_the_integral_of_the_gradient() -> None:
    """Against the midpoint rule, written out."""
    model = double("bert")
    texts = encoded(model, TEXTS[:1])
    batch = model.collate(texts)
    dimensions = SIG().attribute_dimensions(model, texts, Target.of([2]), n_steps=20)[0]
    words = model.embedding(batch.input_ids)
    j = 3
    step = words[0, j] - model.baseline_embedding()
    total = torch.zeros_like(step)
    for k in range(200):
        point = words.clone()
        point[0, j] -= step * (1 - (k + 0.5) / 200)
        point.requires_grad_()
        model(batch, edit=lambda _, point=point: point).logits[0, 0, 2].backward()
        assert point.grad is not None
        total += point.grad[0, j] * step / 200
    assert relative_error(dimensions[j], total) < 1e-4


def test_quadrature_with_one_point_is_the_gradient_at_the_middle_of_the_path() -> None:
    model = double("bert")
    batch = model.collate(encoded(model, TEXTS[:1]))
    words = model.embedding(batch.input_ids)
    expected = torch.zeros(batch.input_ids.shape[1])
    for j in batch.scorable[0].nonzero()[:, 0]:
        step = words[0, j] - model.baseline_embedding()
        middle = words.clone()
        middle[0, j] -= step / 2
        middle.requires_grad_()
        model(batch, edit=lambda _, middle=middle: middle).logits[0, 0, 0].backward()
        assert middle.grad is not None
        expected[j] = (middle.grad[0, j] * step).sum()
    assert relative_error(scores(SIG(n_steps=1), model, TEXTS[:1], Target.of([0]))[0], expected) < 1e-5


@pytest.mark.parametrize("units", [(0, 0, 0, 1, 1, 2, 2), (0, 0, 1, 0, 1, 2, 2)], ids=["neighbours", "scattered"])
def test_a_unit_moves_whole(units: tuple[int, ...]) -> None:
    """The quadrature comes to the exact scores of units, which are replacement differences."""
    model = double("gpt2")
    text = encoded(model, TEXTS[:1])[0]
    text = dataclasses.replace(text, units=units[: len(text)])
    ids, target = text.tokens.input_ids, Target.of([1])
    exact = SIG().attribute(model, [text], target).scores[0]
    for unit in text.unit_masks:
        other = ids.masked_fill(unit, model.baseline_token_id)
        whole, without = (model.model(input_ids=row[None]).logits[0, 1].item() for row in (ids, other))
        assert len(set(exact[unit].tolist())) == 1
        assert exact[unit].sum().item() == pytest.approx(whole - without, rel=1e-4, abs=1e-6)
    assert relative_error(SIG(n_steps=40).attribute(model, [text], target).scores[0], exact) < 1e-5


@pytest.mark.parametrize("internal_batch_size", [7, 40])
def test_the_quadrature_does_not_depend_on_its_batches(internal_batch_size: int) -> None:
    model = double("bert")
    chunked, whole = (
        scores(SIG(n_steps=4, internal_batch_size=rows), model, TEXTS[:1], Target.of([0]))[0]
        for rows in (internal_batch_size, None)
    )
    assert relative_error(chunked, whole) < 1e-5


def test_the_quadrature_works_under_a_small_token_budget() -> None:
    """Without a warning: these are errors."""
    model = copy.copy(double("bert"))
    model.batch_tokens = 20
    method, target = SIG(n_steps=2), Target.of([0, 1])
    expected = torch.cat(scores(method, double("bert"), TEXTS[:2], target))
    assert relative_error(torch.cat(scores(method, model, TEXTS[:2], target)), expected) < 1e-5


def test_sig_works_on_a_model_off_the_attention_interface() -> None:
    model = deberta()
    target = model.predicted(encoded(model, TEXTS[:2]))
    exact = scores(SIG(), model, TEXTS[:2], target)
    for of_text, text, c in zip(exact, TEXTS, target.classes.tolist(), strict=False):
        assert torch.allclose(of_text, replacement_differences(model, text, c), atol=1e-6)


def test_the_cost_counts_one_forward_per_token_or_three_per_point() -> None:
    assert SIG().forward_equivalents(10) == 10
    assert SIG(n_steps=5).forward_equivalents(10) == 150


def test_a_token_that_is_the_baseline_already_scores_0() -> None:
    model = explained("t5")
    text = encoded(model, ["the zebra 漢 film"])[0]
    unknown = text.tokens.input_ids == model.tokenizer.unk_token_id
    exact = SIG().attribute(model, [text], Target.of([0])).scores[0]
    assert unknown.any()
    assert (exact[unknown] == 0).all()
    assert (exact[text.scorable & ~unknown] != 0).all()
