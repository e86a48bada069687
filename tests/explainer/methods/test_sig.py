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


def quadrature(model: ExplainedModel, n_steps: int) -> Tensor:
    batch = batch_of(model, TEXTS[:2])
    return SIG(n_steps=n_steps)(model, batch, torch.tensor([0, 1]))


@pytest.mark.parametrize("family", FAMILIES)
def test_exact_scores_are_replacement_differences(family: str) -> None:
    model = double(family)
    batch = batch_of(model)
    target = torch.tensor([0, 1, 2, 0])
    found = batch.split(SIG()(model, batch, target))
    for text, scores, c in zip(TEXTS, found, target.tolist(), strict=True):
        expected = replacement_differences(model, text, c)
        assert torch.allclose(scores, expected, atol=2e-6 * float(expected.abs().max()) + 1e-6, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_quadrature_converges_to_the_exact_scores_faster_than_any_fixed_order(family: str) -> None:
    """Gauss-Legendre on an analytic integrand: the error falls geometrically in the number of points."""
    model = double(family)
    batch = batch_of(model, TEXTS[:2])
    exact = SIG()(model, batch, torch.tensor([0, 1]))
    points = (16, 32, 64, 128) if family == "t5" else (2, 4, 8, 16, 32)  # T5's unscaled attention bends sharply
    errors = [relative_error(quadrature(model, n), exact) for n in points]
    floor = 1e-5  # the exact scores are differences of float32 logits
    assert errors[0] > 100 * floor
    assert errors[-1] < floor
    for coarse, fine in pairwise(errors[1:]):
        assert fine < max(coarse / 4, floor)  # better than order 2 at each doubling


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
