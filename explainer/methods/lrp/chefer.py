"""The relevance rules of Chefer et al., in force inside a `with` block.

Chefer, Gur and Wolf, Transformer Interpretability Beyond Attention Visualization, CVPR 2021, section 3.1. These rules
are no gradients of anything, so here the gradient of a backward pass *is* the relevance: operations that only move,
copy or pass on values hand it on as it is, and each operation that mixes values distributes it among its inputs:

* linear: z+ parts, R_i = sum_j (x+_i w+_ji + x-_i w-_ji) / (the same summed over i) R_j; biases get nothing
* sum of two activations: in proportion to them; then each branch's total is scaled, per text, to the share
  |its sum| / (|one sum| + |other sum|) of the whole (equations 9 and 10)
* matrix product of two activations: in proportion, half of it to each; element-wise product: half to each
* softmax, norms, activations, and sums and products with constants: passed through

The paper starts the pass with relevance 1 at the target's logit. It has no rule for the operations by which mixtures of
experts combine their outputs.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import resolve_name

from explainer.explained.readout import precise
from explainer.methods.modified_backward import Table, intercepted
from explainer.methods.operations import (
    ACTIVATIONS,
    CLAMPS,
    DROPOUTS,
    LAYER_NORMS,
    LINEAR_LAYERS,
    MATRIX_PRODUCTS,
    MOVES,
    NEGATIONS,
    POWERS,
    PRODUCTS,
    QUOTIENTS,
    RECIPROCAL_ROOTS,
    RMS_NORMS,
    SOFTMAXES,
    SUMS,
    TRANSPOSED_LINEAR_LAYERS,
    Operation,
)

EPSILON = 1e-9


# Relevance is distributed in float32 at least: half precision has no number as small as EPSILON. Autograd then hands it
# on in the precision of the model.


def _divided(a: Tensor, b: Tensor) -> Tensor:
    """a / b, 0 where b is 0."""
    return torch.where(b == 0, 0.0, a / (b + torch.where(b < 0, -EPSILON, EPSILON)))


class _Passed(torch.autograd.Function):
    """y in the place of x, which has the same shape; the relevance of y becomes that of x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.dtype = x.dtype
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        return relevance.to(ctx.dtype), None


class _Linear(torch.autograd.Function):
    """y = x W^T + b with the z+ rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None]:
        x, weight = map(precise, ctx.saved_tensors)
        relevance, result = precise(relevance), torch.zeros_like(x)
        # The others, padding and positions that the head does not read, get nothing: leaving them out saves most work.
        reached = (relevance != 0).any(dim=-1)
        plus, minus = x[reached].clamp(min=0), x[reached].clamp(max=0)
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        share = _divided(relevance[reached], F.linear(plus, positive) + F.linear(minus, negative))
        result[reached] = plus * (share @ positive) + minus * (share @ negative)
        return result, None, None


class _Sum(torch.autograd.Function):
    """a + b with equations 9 and 10."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor]:
        a, b = map(precise, ctx.saved_tensors)
        share = _divided(relevance, a + b)
        parts = a * share, b * share
        dims = tuple(range(1, relevance.ndim))
        sums = [part.sum(dims, keepdim=True) for part in parts]
        scale = _divided(relevance.sum(dims, keepdim=True), sums[0].abs() + sums[1].abs())
        return parts[0] * sums[0].sign() * scale, parts[1] * sums[1].sign() * scale


class _MatrixProduct(torch.autograd.Function):
    """a @ b with half of the relevance to each side, in proportion to a_ik b_kj."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        y = a @ b
        ctx.save_for_backward(a, b, y)
        return y

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor]:
        a, b, y = map(precise, ctx.saved_tensors)
        share = _divided(precise(relevance), y) / 2
        return a * (share @ b.mT), b * (a.mT @ share)


class _Product(torch.autograd.Function):
    """a * b with half of the relevance to each."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, Tensor]:
        return relevance / 2, relevance / 2


class Masked(torch.autograd.Function):
    """x unchanged; the relevance (or the gradient) that flows down is multiplied by `mask`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        return relevance * ctx.saved_tensors[0], None


def passed(x: Tensor, y: Tensor) -> Tensor:
    """y, whose relevance becomes that of x."""
    return _Passed.apply(x.expand_as(y), y.detach())


def _pass(function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return passed(x, function(x, *args, **kwargs))


def _linear(function: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return _Linear.apply(x, weight, function(x, weight, bias).detach())


def _linear_transposed(function: Callable[..., Tensor], bias: Tensor, x: Tensor, weight: Tensor) -> Tensor:
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


# The rule of each operation.
RULES: Table = {
    **dict.fromkeys(LINEAR_LAYERS, _linear),
    **dict.fromkeys(TRANSPOSED_LINEAR_LAYERS, _linear_transposed),
    **dict.fromkeys(SUMS, _sum),
    **dict.fromkeys(PRODUCTS, _product),
    **dict.fromkeys(QUOTIENTS, _quotient),
    **dict.fromkeys(MATRIX_PRODUCTS, _matrix_product),
    **dict.fromkeys((*SOFTMAXES, *LAYER_NORMS, *RMS_NORMS, *DROPOUTS, *ACTIVATIONS, *CLAMPS, *NEGATIONS), _pass),
    **dict.fromkeys((*RECIPROCAL_ROOTS, *POWERS), _constant),  # in norms that are written out (Llama's)
}
_MOVES = frozenset(MOVES)  # the relevance moves along with the values, and that of copies is summed


def _distribute(function: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation by its rule; one that mixes values and has none is refused."""
    rule = RULES.get(function)
    if rule is not None and any(_depends(value) for value in (*args, *kwargs.values())):
        return rule(function, *args, **kwargs)
    try:
        result = function(*args, **kwargs)
    except RuntimeError as error:  # it changes in place what a rule gave
        raise _without_rule(function) from error
    if function not in _MOVES and any(map(_depends, result if isinstance(result, tuple | list) else [result])):
        raise _without_rule(function)
    return result


@contextlib.contextmanager
def chefer_rules(model: nn.Module) -> Iterator[None]:
    """A forward pass inside the block builds a graph whose backward pass carries relevance.

    Raises:
        ValueError: from a forward pass that uses an operation without a rule; when the weights are quantised.
    """
    if getattr(model, "is_quantized", False):
        raise ValueError(
            "The rules of Chefer et al. split every weight matrix into its positive and negative parts, and this "
            "model's are quantised: load it without quantisation, or take `attn_lrp` or `mask_lrp` with "
            "`rules: attn_lrp`."
        )
    with intercepted(model, _distribute, lambda module, x, y: passed(x, y)):
        yield
