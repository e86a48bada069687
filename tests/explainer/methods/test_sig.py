"""SIG: exact scores are replacement differences, and the quadrature converges to them at its order."""

import copy
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from explainer.explained import ExplainedModel
from explainer.methods import SIG
from tests.explainer.tools import batch_of, deberta, double, encoded, predicted, relative_error
from tests.families import FAMILIES, TEXTS, explained


def replacement_differences(model: ExplainedModel, text: str, target: int) -> Tensor:
    """f_c(x) - f_c(x with token j replaced), one forward pass a token, without any of the package's batching."""
    encoding = encoded(model, [text])[0]
    ids = encoding.tokens.input_ids
    scores = torch.zeros(len(ids))
    for j in encoding.scorable.nonzero()[:, 0]:
        other = ids.clone()
        other[j] = model.baseline_token_id
        pair = [model.model(input_ids=row[None]).logits[0, target].item() for row in (ids, other)]
        scores[j] = pair[0] - pair[1]
    return scores


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_scores_are_replacement_differences(family: str) -> None:
    model = double(family)
    batch = batch_of(model)
    target = torch.tensor([0, 1, 2, 0])
    found = batch.split(SIG()(model, batch, target))
    for text, scores, c in zip(TEXTS, found, target.tolist(), strict=True):
        expected = replacement_differences(model, text, c)
        assert torch.allclose(scores, expected, atol=2e-6 * float(expected.abs().max()) + 1e-6, rtol=1e-4)


def assert_geometric(model: ExplainedModel, points: tuple[int, ...], baseline: str | None = None) -> None:
    """Gauss-Legendre on an analytic integrand: the error falls geometrically in the number of points."""
    batch = batch_of(model, TEXTS[:2])
    target = torch.tensor([0, 1])
    exact = SIG(baseline=baseline)(model, batch, target)
    errors = [relative_error(SIG(n_steps=n, baseline=baseline)(model, batch, target), exact) for n in points]
    floor = 1e-5  # the exact scores are differences of float32 logits
    assert errors[0] > 100 * floor
    assert errors[-1] < floor
    for coarse, fine in pairwise(errors[1:]):
        assert fine < max(coarse / 4, floor)  # better than order 2 at each doubling


@pytest.mark.parametrize("family", FAMILIES)
def test_quadrature_converges_to_the_exact_scores_faster_than_any_fixed_order(family: str) -> None:
    t5 = family == "t5"  # T5's unscaled attention bends sharply
    assert_geometric(double(family), (16, 32, 64, 128) if t5 else (2, 4, 8, 16, 32))


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("baseline", ["mask", "pad", "unk", "zero", "fun"])
def test_it_converges_at_that_order_from_every_baseline(family: str, baseline: str) -> None:
    if family == "gpt2" and baseline in ("mask", "pad"):
        pytest.skip("refused: see below")
    assert_geometric(double(family), (2, 4, 8, 16, 32), baseline)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("baseline", ["zero", "unk", "fun"])
def test_exact_scores_start_from_the_baseline_s_embedding(family: str, baseline: str) -> None:
    """Edits of the embeddings, one a token, without the package's token replacement."""
    model = double(family)
    batch = batch_of(model, TEXTS[:1])
    words = model.tokenizer
    ids = torch.tensor([words.unk_token_id, words.convert_tokens_to_ids("fun")])
    unk, fun = model.embedding(ids)
    start = {"zero": torch.zeros_like(unk), "unk": unk, "fun": fun}
    found = SIG(baseline=baseline)(model, batch, torch.tensor([1]))[0]
    for j in batch.scorable[0].nonzero()[:, 0].tolist():
        here = (torch.arange(len(found)) == j)[None, :, None]
        other = model(batch, edit=lambda e, here=here: torch.where(here, start[baseline].to(e.dtype), e))
        expected = (model(batch) - other)[0, 1].item()
        assert found[j].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_baseline_is_the_explained_model_s_own(family: str) -> None:
    model = explained(family)
    batch = batch_of(model)
    token = model.tokenizer.convert_ids_to_tokens(model.baseline_token_id)
    target = predicted(model, batch)
    assert torch.equal(SIG(baseline=token)(model, batch, target), SIG()(model, batch, target))


def test_padding_as_baseline_is_refused_where_it_would_move_something() -> None:
    for family, reason in (("llama", "pools at the last token"), ("roberta", "counts positions past it")):
        for settings in ({}, {"n_steps": 2}):
            batch = batch_of(explained(family))
            with pytest.raises(ValueError, match=rf"`baseline` 'pad'.*{reason}"):
                SIG(baseline="pad", **settings)(explained(family), batch, predicted(explained(family), batch))


def test_a_baseline_that_the_tokenizer_lacks_is_refused() -> None:
    batch = batch_of(explained("gpt2"))
    for baseline, reason in (("mask", "the tokenizer has none"), ("very good", "is not one token")):
        with pytest.raises(ValueError, match=rf"`baseline` '{baseline}'.*{reason}"):
            SIG(baseline=baseline)(explained("gpt2"), batch, predicted(explained("gpt2"), batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_dimensions_sum_to_the_exact_scores_but_for_the_delta(family: str) -> None:
    model = double(family)
    target = torch.tensor([0, 1])
    for side in ("right", "left"):
        batch = batch_of(model, TEXTS[:2], side)
        parts, delta = SIG().attribute_dimensions(
            model, batch, target, n_steps=2, internal_batch_size=30, return_convergence_delta=True
        )
        hidden = model.embedding.weight.shape[1]
        assert parts.shape == (*batch.input_ids.shape, hidden)
        assert (parts[~batch.scorable] == 0).all()
        exact = SIG()(model, batch, target)
        assert torch.allclose(parts.sum(dim=-1).float() - delta, exact, atol=1e-6)
        assert delta.abs().max() > 1e-7
        assert torch.equal(SIG().attribute_dimensions(model, batch, target, 2, 30), parts)


def test_the_dimensions_are_the_integral_of_the_gradient() -> None:
    """Against the midpoint rule, written out."""
    model = double("bert")
    batch = batch_of(model, TEXTS[:1])
    found = SIG().attribute_dimensions(model, batch, torch.tensor([2]), n_steps=20)
    words = model.embedding(batch.input_ids)
    j = 3
    step = words[0, j] - model.baseline_embedding()
    total = torch.zeros_like(step)
    for k in range(200):
        point = words.clone()
        point[0, j] -= step * (1 - (k + 0.5) / 200)
        point.requires_grad_()
        model(batch, edit=lambda _, point=point: point)[0, 2].backward()
        assert point.grad is not None
        total += point.grad[0, j] * step / 200
    assert relative_error(found[0, j], total) < 1e-4


def test_quadrature_with_one_point_is_the_gradient_at_the_middle_of_the_path() -> None:
    model = double("bert")
    batch = batch_of(model, TEXTS[:1])
    words = model.embedding(batch.input_ids)
    expected = torch.zeros(batch.input_ids.shape)
    for j in batch.scorable[0].nonzero()[:, 0]:
        step = words[0, j] - model.baseline_embedding()
        middle = words.clone()
        middle[0, j] -= step / 2
        middle.requires_grad_()
        model(batch, edit=lambda _, middle=middle: middle)[0, 0].backward()
        assert middle.grad is not None
        expected[0, j] = (middle.grad[0, j] * step).sum()
    assert relative_error(SIG(n_steps=1)(model, batch, torch.tensor([0])), expected) < 1e-5


@pytest.mark.parametrize("internal_batch_size", [7, 40])
def test_the_quadrature_does_not_depend_on_its_batches(internal_batch_size: int) -> None:
    model = double("bert")
    batch = batch_of(model, TEXTS[:1])
    chunked = SIG(n_steps=4, internal_batch_size=internal_batch_size)(model, batch, torch.tensor([0]))
    assert relative_error(chunked, SIG(n_steps=4)(model, batch, torch.tensor([0]))) < 1e-5


def test_the_quadrature_works_under_a_small_token_budget() -> None:
    """Without a warning: these are errors."""
    model = copy.copy(double("bert"))
    model.batch_tokens = 20
    batch = batch_of(model, TEXTS[:2])
    expected = SIG(n_steps=2)(double("bert"), batch, torch.tensor([0, 1]))
    assert relative_error(SIG(n_steps=2)(model, batch, torch.tensor([0, 1])), expected) < 1e-5


def test_sig_works_on_a_model_off_the_attention_interface() -> None:
    model = deberta()
    batch = batch_of(model, TEXTS[:2])
    target = predicted(model, batch)
    for scores, text, c in zip(batch.split(SIG()(model, batch, target)), TEXTS, target.tolist(), strict=False):
        assert torch.allclose(scores, replacement_differences(model, text, c), atol=1e-6)


def test_the_cost_counts_one_forward_a_token_or_three_a_point() -> None:
    assert SIG().forward_equivalents(10) == 10
    assert SIG(n_steps=5).forward_equivalents(10) == 150


def test_a_token_that_is_the_baseline_already_scores_0() -> None:
    model = explained("llama")
    batch = batch_of(model, ["the zebra 漢 film"])
    unknown = batch.input_ids == model.tokenizer.unk_token_id
    scores = SIG()(model, batch, torch.tensor([0]))
    assert unknown.any()
    assert (scores[unknown] == 0).all()
    assert (scores[batch.scorable & ~unknown] != 0).all()
