"""The rules of Chefer et al. one by one, against loops written out."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from explainer.methods.lrp.chefer import EPSILON, Masked, _divided, chefer_rules, passed
from tests.explainer.methods.lrp.test_mask_lrp import added, linear, matrix_product


class Function(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def relevances(module: Any, start: Tensor | None, *inputs: Tensor) -> tuple[Tensor, ...]:
    """The relevance of each input where `start` is that of the output (1 everywhere without it)."""
    module = module if isinstance(module, nn.Module) else Function(module)
    leaves = [x.clone().requires_grad_() for x in inputs]
    expected = module.double().requires_grad_(False)(*inputs)
    with chefer_rules(module):
        y = module(*leaves)
        assert torch.equal(y, expected)
        return torch.autograd.grad(y, leaves, torch.ones_like(y) if start is None else start)


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_division_by_0_is_0_and_by_next_to_0_finite_on_both_sides() -> None:
    below = torch.tensor([0.0, EPSILON, -EPSILON, 2.0, -4.0], dtype=torch.float64)
    expected = torch.tensor([0.0, 0.5 / EPSILON, -0.5 / EPSILON, 0.5, -0.25], dtype=torch.float64)
    assert torch.allclose(_divided(torch.ones_like(below), below), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "gpt2's"])
def test_a_linear_layer_hands_on_by_its_positive_parts(kind: str) -> None:
    """Nothing goes to the bias, nor to a token whose output has no relevance."""
    weight, x, start = numbers(4, 6), numbers(3, 6), numbers(3, 4)
    start[1] = 0.0
    start[2, 1:] = 0.0
    layer: nn.Module = nn.Linear(6, 4) if kind == "linear" else Conv1D(4, 6)
    with torch.no_grad():
        layer.weight = nn.Parameter(weight if kind == "linear" else weight.T)
        layer.bias = nn.Parameter(numbers(4))
    (relevance,) = relevances(layer, start, x)
    assert torch.allclose(relevance, linear(x, weight, start), rtol=1e-6, atol=1e-9)
    assert (relevance[1] == 0).all()
    assert torch.allclose(relevance.sum(), start.sum(), rtol=1e-6)
    (relevance,) = relevances(layer, None, x)
    assert torch.allclose(relevance, linear(x, weight, torch.ones(3, 4)), rtol=1e-6)


@pytest.mark.parametrize("function", [torch.add, lambda a, b: a + b], ids=["torch", "operator"])
def test_a_sum_is_distributed_text_by_text(function: Any) -> None:
    one, other, start = numbers(3, 2, 5), numbers(3, 2, 5), numbers(3, 2, 5)
    expected = [added(*texts) for texts in zip(one, other, start, strict=True)]
    for relevance, by_hand in zip(relevances(function, start, one, other), zip(*expected, strict=True), strict=True):
        assert torch.allclose(relevance, torch.stack(by_hand), rtol=1e-5)


def test_a_matrix_product_hands_half_to_each_side() -> None:
    left, right, start = numbers(3, 4), numbers(4, 5), numbers(3, 5)
    for relevance, by_hand in zip(
        relevances(torch.matmul, start, left, right), matrix_product(left, right, start), strict=True
    ):
        assert torch.allclose(relevance, by_hand, rtol=1e-5)


def test_a_product_hands_half_to_each_factor_and_sums_over_copies() -> None:
    start = numbers(3, 5)
    one, other = relevances(torch.mul, start, numbers(3, 1), numbers(3, 5))
    assert torch.equal(one, start.sum(dim=1, keepdim=True) / 2)
    assert torch.equal(other, start / 2)


PASSED = {
    "softmax": lambda x: x.softmax(dim=-1),
    "layer norm": lambda x: F.layer_norm(x, (5,)),
    "rms norm": lambda x: F.rms_norm(x, (5,)),
    "gelu": F.gelu,
    "plus a constant": lambda x: x + 3.0,
    "a constant plus it": lambda x: 3.0 + x,
    "times a constant": lambda x: x * 3.0,
    "a constant times it": lambda x: 3.0 * x,
    "by a constant": lambda x: x / 3.0,
    "a norm written out": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)),
    "negation": torch.neg,
}


@pytest.mark.parametrize("name", PASSED)
def test_an_operation_that_mixes_no_two_activations_passes_relevance_on(name: str) -> None:
    x, start = numbers(3, 5), numbers(3, 5)
    (relevance,) = relevances(PASSED[name], start, x)
    assert torch.equal(relevance, start)


def test_a_constant_that_is_broadcast_gives_each_activation_all_that_came_of_it() -> None:
    start = numbers(3, 5)
    (relevance,) = relevances(lambda x: x + torch.zeros(3, 5, dtype=torch.float64), start, numbers(3, 1))
    assert torch.allclose(relevance, start.sum(dim=1, keepdim=True))


def in_place(x: Tensor) -> Tensor:
    y = F.gelu(x)
    y[0] = 0.0
    return y


REFUSED = {
    "a quotient by an activation": lambda x: 1 / x,
    "two activations divided": lambda x: x / x,
    "a matrix product with a constant": lambda x: x @ torch.ones(5, 2, dtype=torch.float64),
    "a constant by matrix": lambda x: torch.ones(2, 3, dtype=torch.float64) @ x,
    "an operation that has no rule": lambda x: torch.cdist(x, x),
    "values and places": lambda x: x.kthvalue(2, dim=0)[0],
    "a change in place": in_place,
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_without_a_rule_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"`rules='chefer'` has no rule for torch\.\S+ as .*`rules='attn_lrp'`"):
        relevances(REFUSED[name], None, numbers(3, 5))


def test_what_does_not_depend_on_the_text_is_computed_as_ever() -> None:
    constant = numbers(5, 5)
    (relevance,) = relevances(lambda x: x + (constant @ constant / constant).cumsum(0)[0], None, numbers(3, 5))
    assert (relevance == 1).all()


def test_a_mask_multiplies_what_flows_down_and_passing_gives_the_place_of_another() -> None:
    x, mask = numbers(2, 3).requires_grad_(), numbers(2, 3)
    masked = Masked.apply(x, mask)
    assert torch.equal(masked, x)
    assert torch.equal(torch.autograd.grad(masked.sum(), x)[0], mask)
    other = passed(x, mask)
    assert torch.equal(other, mask)
    assert torch.equal(torch.autograd.grad(other.sum(), x)[0], torch.ones_like(x))
