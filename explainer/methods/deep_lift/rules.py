"""DeepLIFT's multipliers for every operation of a transformer, in force inside a `with` block.

A text x and its reference r go through the model as one batch, x in the first half of the rows, r in the second.
Each operation that is not linear keeps its value, and its gradient becomes the slope of the chord between the two, so
that one ordinary backward pass multiplies the chords (Shrikumar et al., ICML 2017, section 3.2):

    y = s(x), element by element:   dy/dx := (y_x - y_r) / (x_x - x_r)                        (rescale rule)
    y = a b, any bilinear map:      dy/da := (b_x + b_r) / 2,  dy/db := (a_x + a_r) / 2       (half of the change each)
    norms:                          composed of these two (square, mean, z^(-1/2), product)
    y = softmax(x):                 dy_i/dx_j := l_i (1_ij - l_j / sum l),  l = (y_x - y_r) / (ln y_x - ln y_r)
    y = ln softmax(x):              dy_i/dx_j := 1_ij - l_j / sum l

Softmax: ln y = x - lse(x), lse(x) = ln sum_j exp(x_j). The rescale rule on exp turns the change of ln y into that of y:
dy_i = l_i (dx_i - dlse), where l_i is the logarithmic mean of y_i at the text and at the reference. Probabilities sum
to 1, so their changes sum to 0, which gives dlse = sum_j l_j dx_j / sum_j l_j. The result is softmax's own Jacobian at
the logarithmic means of the probabilities. The rule is not composed of exp, sum and 1/z: for peaked attention their
multipliers cancel, at sizes that no floating-point number holds.

Each rule gives the change of y exactly, so the scores sum to objective(x) - objective(r) on every architecture that is
made of these operations. captum's DeepLift knows activation modules only; products, norms and softmax keep the gradient
at x there.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from explainer.explained.attention import edit_attention_weights
from explainer.methods.modified_backward import Table, intercepted
from explainer.methods.operations import (
    ACTIVATIONS,
    BATCHED_MATRIX_PRODUCTS,
    CLAMPS,
    LAYER_NORMS,
    LOG_SIGMOIDS,
    LOG_SOFTMAXES,
    LOG_SUMS,
    MATRIX_PRODUCTS,
    OTHER_ACTIVATIONS,
    POWERS,
    PRODUCTS,
    RECIPROCAL_ROOTS,
    SOFTMAXES,
    Operation,
    affine,
    centred,
)


class _Value(torch.autograd.Function):
    """The value `y` with the gradient of `linear`."""

    @staticmethod
    def forward(ctx: Any, linear: Tensor, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def value(linear: Tensor, y: Tensor) -> Tensor:
    """The output `y` of an operation, with the gradient of `linear`, whose coefficients are the multipliers."""
    return _Value.apply(linear, y.detach())


def middle(x: Tensor) -> Tensor:
    """Half-way between text and reference, at the rows of both."""
    text, reference = _halves(x)
    return _both((text + reference) / 2)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of the texts and those of their references, without graph."""
    text, reference = x.detach().chunk(2)
    return text, reference


def _both(slope: Tensor) -> Tensor:
    """One slope per text, at the rows of text and reference."""
    return slope.repeat(2, *[1] * (slope.ndim - 1))


def rescaled(function: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """y = function(x) with the slope of the chord as its gradient.

    Where text and reference nearly agree, the quotient of their changes is mostly rounding error. The derivative
    half-way between them equals the slope to order 2, and is taken there instead.
    """
    change_x, change_y = (text - reference for text, reference in (_halves(x), _halves(y)))
    with torch.enable_grad():
        point = middle(x)[: len(change_x)].requires_grad_()
        (derivative,) = torch.autograd.grad(function(point).sum(), point)
    near = change_x.abs() < torch.finfo(x.dtype).eps ** (1 / 3)
    return value(x * _both(torch.where(near, derivative, change_y / change_x.masked_fill(near, 1.0))), y)


def _activation(function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return rescaled(lambda point: function(point, *args, **kwargs), x, function(x, *args, **kwargs))


def _product(function: Callable[..., Tensor], a: Any, b: Any, *args: Any, **kwargs: Any) -> Tensor:
    y = function(a, b, *args, **kwargs)
    if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.requires_grad and b.requires_grad):
        return y
    return value(function(a, middle(b), *args, **kwargs) + function(middle(a), b, *args, **kwargs), y)


def _power(function: Callable[..., Tensor], x: Any, exponent: Any, *args: Any, **kwargs: Any) -> Tensor:
    if exponent != 2:
        return _activation(function, x, exponent, *args, **kwargs)
    # (x_x^2 - x_r^2) / (x_x - x_r) = x_x + x_r, without a division.
    return value(2 * middle(x) * x, function(x, exponent, *args, **kwargs))


def _reciprocal_root(function: Callable[..., Tensor], x: Tensor) -> Tensor:
    # The chord of z^(-1/2) between z = s^2 and z = t^2 is -1 / (s t (s + t)), without a division of small changes.
    text, reference = (half.sqrt() for half in _halves(x))
    return value(x * _both(-1 / (text * reference * (text + reference))), function(x))


def _layer_norm(
    function: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    centre, dims = centred(input, normalized_shape)
    variance = _power(torch.pow, centre, 2).mean(dims, keepdim=True) + eps
    return affine(_product(torch.mul, centre, _reciprocal_root(torch.rsqrt, variance)), weight, bias)


def _softmax(function: Callable[..., Tensor], input: Tensor, dim: int = -1, *_: Any, dtype: Any = None, **__: Any):
    # Never to less than the model's own precision: the mask's float64 minimum is infinite in float32.
    x = input if dtype is None else input.to(torch.promote_types(input.dtype, dtype))
    mean = _logarithmic_mean(x.log_softmax(dim))  # l
    return value(mean * (x - _linear_log_sum(mean, x, dim)), x.softmax(dim))


def _log_softmax(function: Callable[..., Tensor], input: Tensor, dim: int = -1, *args: Any, **kwargs: Any) -> Tensor:
    mean = _logarithmic_mean(input.log_softmax(dim))
    return value(input - _linear_log_sum(mean, input, dim), function(input, dim, *args, **kwargs))


def _log_sum(function: Callable[..., Tensor], input: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    mean = _logarithmic_mean(input.log_softmax(dim))
    linear = _linear_log_sum(mean, input, dim)
    return value(linear if keepdim else linear.squeeze(dim), function(input, dim, keepdim))


def _logarithmic_mean(log_y: Tensor) -> Tensor:
    """(y_x - y_r) / (ln y_x - ln y_r), at the rows of both; y where the two are equal.

    With the larger of the two taken out, exp(high) (1 - exp(-gap)) / gap, it neither overflows nor cancels.
    """
    low, high = torch.aminmax(torch.stack(_halves(log_y)), dim=0)
    gap = (high - low).nan_to_num(0.0)  # both are -inf where text and reference are masked
    tiny = torch.finfo(gap.dtype).tiny
    return _both(high.exp() * torch.where(gap > 0, -torch.expm1(-gap) / gap.clamp(min=tiny), 1.0))


def _linear_log_sum(mean: Tensor, x: Tensor, dim: int) -> Tensor:
    """The linear function sum_j l_j x_j / sum_j l_j, whose changes are those of ln sum_j exp(x_j)."""
    return (mean / mean.sum(dim, keepdim=True) * x).sum(dim, keepdim=True)


# The rule of each operation of a model. An operation without a row is taken for linear.
RULES: Table = {
    **dict.fromkeys((*ACTIVATIONS, *OTHER_ACTIVATIONS, *CLAMPS), _activation),
    **dict.fromkeys((*PRODUCTS, *MATRIX_PRODUCTS, *BATCHED_MATRIX_PRODUCTS), _product),
    **dict.fromkeys(POWERS, _power),
    **dict.fromkeys(RECIPROCAL_ROOTS, _reciprocal_root),
    **dict.fromkeys(LAYER_NORMS, _layer_norm),
    **dict.fromkeys(SOFTMAXES, _softmax),
}
# The rules of what makes log-probabilities and log-odds of logits (`Readout.objective`).
OBJECTIVE_RULES: Table = {
    **dict.fromkeys(LOG_SOFTMAXES, _log_softmax),
    **dict.fromkeys(LOG_SUMS, _log_sum),
    **dict.fromkeys(LOG_SIGMOIDS, _activation),
}


def chords(function: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operation by its rule, where it has one and its input depends on the text."""
    rule = RULES.get(function) or OBJECTIVE_RULES.get(function)
    depends = isinstance(args[0] if args else None, Tensor) and args[0].requires_grad
    if rule is None or not (depends or rule is _product):
        return function(*args, **kwargs)
    return rule(function, *args, **kwargs)


def _module(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return rescaled(module.forward, x, y) if x.requires_grad else y


@contextlib.contextmanager
def deep_lift_rules(model: nn.Module) -> Iterator[None]:
    """Inside the block a backward pass through `model`, on a batch of texts above their references, gives multipliers.

    Raises:
        ValueError: when the model's attention is not on transformers' attention interface.
    """
    # Eager attention, in which the softmax and the products are operations of their own.
    with edit_attention_weights(model, lambda module, weights: weights), intercepted(model, chords, _module):
        yield
