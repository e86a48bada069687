"""DeepLIFT's multipliers for every operation of a transformer, put in place by interception and gone afterwards.

A text x and its reference r go through the model as one batch, x in the first half of the rows, r in the second.
Each operation whose output is not linear keeps its value, and gets as its gradient the slope of the chord between
the two, so that one ordinary backward pass multiplies the chords up (Shrikumar et al., ICML 2017, section 3.2):

    y = s(x), element by element:   dy/dx := (y_x - y_r) / (x_x - x_r)                        (rescale rule)
    y = a b, any bilinear map:      dy/da := (b_x + b_r) / 2,  dy/db := (a_x + a_r) / 2       (half of the change each)
    norms:                          composed of these two (square, mean, z^(-1/2), product)
    y = softmax(x):                 dy_i/dx_j := l_i (1_ij - l_j / sum l),  l = (y_x - y_r) / (ln y_x - ln y_r)

Softmax: ln y = x - lse(x) gives the changes dy_i = l_i (dx_i - dlse), by the rescale rule on exp; that they sum to 0
gives dlse = sum_j l_j dx_j / sum_j l_j. It is softmax's own Jacobian at the logarithmic means of the probabilities;
composed of exp, sum and 1/z instead, multipliers of peaked attention cancel at sizes that no float holds.

Each rule gives the change of y exactly, so the sum over the inputs is f_c(x) - f_c(r) on every architecture of these
operations. captum's DeepLift knows activation modules only; products, norms and softmax keep the gradient at x there.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainer.explained.attention import edit_attention_maps
from explainer.methods.modified_backward import Operation, Table, intercepted


class _Value(torch.autograd.Function):
    """The value `y` with the gradient of `linear`."""

    @staticmethod
    def forward(ctx: Any, linear: Tensor, y: Tensor) -> Tensor:
        return y.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def value(linear: Tensor, y: Tensor) -> Tensor:
    return _Value.apply(linear, y.detach())


def middle(x: Tensor) -> Tensor:
    """Half-way between text and reference, at the rows of both."""
    text, reference = _halves(x)
    return _both((text + reference) / 2)


def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
    text, reference = x.detach().chunk(2)
    return text, reference


def _both(slope: Tensor) -> Tensor:
    return slope.repeat(2, *[1] * (slope.ndim - 1))


def rescaled(function: Callable[[Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """The chord's slope; where text and reference nearly agree, the derivative half-way, which is that to order 2."""
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
    return value(2 * middle(x) * x, function(x, exponent, *args, **kwargs))


def _reciprocal_root(function: Callable[..., Tensor], x: Tensor) -> Tensor:
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
    dims = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(dims, keepdim=True)
    variance = _power(torch.pow, centred, 2).mean(dims, keepdim=True) + eps
    y = _product(torch.mul, centred, _reciprocal_root(torch.rsqrt, variance))
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _softmax(function: Callable[..., Tensor], input: Tensor, dim: int = -1, *_: Any, dtype: Any = None, **__: Any):
    # Never to less than the model's own precision: the mask's float64 minimum is infinite in float32.
    scores = input if dtype is None else input.to(torch.promote_types(input.dtype, dtype))
    low, high = torch.aminmax(torch.stack(_halves(scores.log_softmax(dim))), dim=0)
    gap = (high - low).nan_to_num(0.0)  # masked in both: -inf less itself
    tiny = torch.finfo(gap.dtype).tiny
    mean = _both(high.exp() * torch.where(gap > 0, -torch.expm1(-gap) / gap.clamp(min=tiny), 1.0))
    normaliser = (mean / mean.sum(dim, keepdim=True) * scores).sum(dim, keepdim=True)
    return value(mean * (scores - normaliser), scores.softmax(dim))


# The table: which rule each operation gets. An operation without a row is taken for linear.
RULES: Table = {
    **dict.fromkeys((F.gelu, F.silu, F.relu, F.elu, F.leaky_relu, F.mish, F.softplus, F.relu6), _activation),
    **dict.fromkeys((torch.relu, torch.tanh, torch.sigmoid, F.tanh, F.sigmoid), _activation),
    **dict.fromkeys((Tensor.relu, Tensor.tanh, Tensor.sigmoid), _activation),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__), _product),
    **dict.fromkeys((torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__), _product),
    **dict.fromkeys((torch.pow, Tensor.pow, Tensor.__pow__), _power),
    **dict.fromkeys((torch.rsqrt, Tensor.rsqrt), _reciprocal_root),
    F.layer_norm: _layer_norm,
    **dict.fromkeys((F.softmax, torch.softmax, Tensor.softmax), _softmax),
}


def chords(function: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    rule = RULES.get(function)
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
    with edit_attention_maps(model, lambda module, weights: weights), intercepted(model, chords, _module):
        yield
