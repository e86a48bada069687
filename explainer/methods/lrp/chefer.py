"""The relevance rules of Chefer et al., put in place by interception and gone when the block is left.

Chefer, Gur and Wolf, Transformer Interpretability Beyond Attention Visualization, CVPR 2021, section 3.1. These rules
are no gradients of anything, so here the gradient of a backward pass *is* the relevance: whatever an operation only
moves, copies or passes on goes through as it is, and each operation that mixes values shares its relevance out:

* linear: z+ parts, R_i = sum_j (x+_i w+_ji + x-_i w-_ji) / (the same summed over i) R_j; biases get nothing
* sum of two activations: in proportion to them, then each branch's total to |its sum| / (|one sum| + |other sum|) of
  the whole, text by text (equations 9 and 10)
* matrix product of two activations: in proportion, half of it to each; element-wise product: half to each
* softmax, norms, activations, and sums and products with constants: passed through

Seed the pass with 1 at the target's logit. Mixtures of experts mix by operations of which the paper says nothing.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import resolve_name

from explainer.methods.modified_backward import Operation, Table, intercepted

EPSILON = 1e-9


def _divided(a: Tensor, b: Tensor) -> Tensor:
    """a / b, 0 where b is 0."""
    return torch.where(b == 0, 0.0, a / (b + torch.where(b < 0, -EPSILON, EPSILON)))


class _Passed(torch.autograd.Function):
    """y in the place of x, of its shape: the relevance of y is that of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        return relevance.to(ctx.dtype), None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None]:
        x, weight = ctx.saved_tensors
        result = torch.zeros_like(x)
        rows = (relevance != 0).any(dim=-1)  # not padding, nor what the head does not read
        plus, minus = x[rows].clamp(min=0), x[rows].clamp(max=0)
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        share = _divided(relevance[rows], F.linear(plus, positive) + F.linear(minus, negative))
        result[rows] = plus * (share @ positive) + minus * (share @ negative)
        return result, None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        share = _divided(relevance, a + b)
        parts = a * share, b * share
        dims = tuple(range(1, relevance.ndim))
        sums = [part.sum(dims, keepdim=True) for part in parts]
        scale = _divided(relevance.sum(dims, keepdim=True), sums[0].abs() + sums[1].abs())
        return parts[0] * sums[0].sign() * scale, parts[1] * sums[1].sign() * scale


class _MatrixProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        y = a @ b
        ctx.save_for_backward(a, b, y)
        return y

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor]:
        a, b, y = ctx.saved_tensors
        share = _divided(relevance, y) / 2
        return a * (share @ b.mT), b * (a.mT @ share)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor]:
        return relevance / 2, relevance / 2


class Masked(torch.autograd.Function):
    """x unchanged; what flows down is the relevance (or the gradient) times `mask`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        return relevance * ctx.saved_tensors[0], None


def passed(x: Tensor, y: Tensor) -> Tensor:
    return _Passed.apply(x.expand_as(y), y.detach())


def _pass(function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return passed(x, function(x, *args, **kwargs))


def _linear(function: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _Linear.apply(x, weight, function(x, weight, bias).detach())


def _addmm(function: Callable[..., Tensor], bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """GPT-2's linear layer: the weight is (in, out)."""
    return _Linear.apply(x, weight.T, function(bias, x, weight).detach())


def _depends(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _sum(function: Callable[..., Tensor], a: Any, b: Any) -> Tensor:
    if _depends(a) and _depends(b):
        return _Sum.apply(*torch.broadcast_tensors(a, b))
    return passed(a if _depends(a) else b, function(a, b))


def _product(function: Callable[..., Tensor], a: Any, b: Any) -> Tensor:
    if _depends(a) and _depends(b):
        return _Product.apply(*torch.broadcast_tensors(a, b))
    return passed(a if _depends(a) else b, function(a, b))


def _quotient(function: Callable[..., Tensor], a: Any, b: Any) -> Tensor:
    if _depends(b):
        raise _without_rule(function)
    return passed(a, function(a, b))


def _matrix_product(function: Callable[..., Tensor], a: Tensor, b: Tensor) -> Tensor:
    if not (_depends(a) and _depends(b)):
        raise _without_rule(function)
    return _MatrixProduct.apply(a, b)


def _constant(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    return function(*args, **kwargs).detach()


def _without_rule(function: Callable[..., Any]) -> ValueError:
    return ValueError(
        f"`rules='chefer'` has no rule for {resolve_name(function) or function} as this model uses it (a mixture of "
        "experts, or a layer unknown to the paper). Take `rules='attn_lrp'` or another method: `gae`, `attn_lrp`, "
        "`leave_one_out`."
    )


# Which rule each operation gets.
RULES: Table = {
    F.linear: _linear,
    torch.addmm: _addmm,
    **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__), _sum),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__), _product),
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), _matrix_product),
    **dict.fromkeys((F.softmax, torch.softmax, Tensor.softmax, F.layer_norm, F.rms_norm, F.dropout), _pass),
    **dict.fromkeys((F.gelu, F.silu, F.relu, torch.relu, torch.tanh, torch.sigmoid, F.tanh, F.sigmoid), _pass),
    **dict.fromkeys((Tensor.tanh, Tensor.relu, Tensor.sigmoid, Tensor.neg, Tensor.__neg__, torch.neg), _pass),
    **dict.fromkeys((torch.div, Tensor.div, Tensor.__truediv__), _quotient),
    **dict.fromkeys((torch.rsqrt, Tensor.rsqrt, torch.pow, Tensor.pow, Tensor.__pow__), _constant),  # written-out norms
}
# Operations that only move or copy values: the relevance moves along, and that of copies is summed.
MOVES = {
    *(Tensor.view, Tensor.reshape, Tensor.flatten, Tensor.squeeze, Tensor.unsqueeze, Tensor.expand, Tensor.contiguous),
    *(Tensor.transpose, Tensor.permute, Tensor.chunk, Tensor.split, Tensor.unbind, Tensor.__getitem__, Tensor.clone),
    *(Tensor.to, Tensor.float, Tensor.double, Tensor.type, Tensor.type_as, Tensor.repeat_interleave, Tensor.gather),
    *(torch.reshape, torch.flatten, torch.squeeze, torch.unsqueeze, torch.transpose, torch.permute, torch.chunk),
    *(torch.split, torch.unbind, torch.cat, torch.stack, torch.repeat_interleave, torch.gather, torch.clone),
    *(Tensor.expand_as, Tensor.view_as, Tensor.requires_grad_),
}


def _shared_out(function: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    rule = RULES.get(function)
    if rule is not None and any(_depends(value) for value in (*args, *kwargs.values())):
        return rule(function, *args, **kwargs)
    result = function(*args, **kwargs)
    if function not in MOVES and any(map(_depends, result if isinstance(result, tuple | list) else [result])):
        raise _without_rule(function)
    return result


@contextlib.contextmanager
def chefer_rules(model: nn.Module) -> Iterator[None]:
    """A forward pass inside the block builds a graph whose backward pass carries relevance.

    Raises:
        ValueError: from a forward pass that uses an operation without a rule.
    """
    with intercepted(model, _shared_out, lambda module, x, y: passed(x, y)):
        yield
