"""LRP as gradient rules: a table keyed by operation, put in place by interception and gone when the block is left.

Under these rules the relevance of any activation h is h * dL/dh of one ordinary backward pass
(Achtibat et al., AttnLRP, ICML 2024, sections 3.2 and 3.3). Linear layers and sums need no rule: their gradient
is the epsilon rule.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explainer.explained import edit_attention
from explainer.methods.modified_backward import Interception, Table, by_table, intercepted

Variant = Literal["attn_lrp", "cp_lrp"]


class _Identity(torch.autograd.Function):
    """y = s(x) with the gradient y / x: all relevance of y goes to x (identity rule, equation 9)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, y = ctx.saved_tensors
        return gradient * y / stabilized(x), None


class _Scaled(torch.autograd.Function):
    """x unchanged, its gradient times a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def identity(x: Tensor, y: Tensor) -> Tensor:
    return _Identity.apply(x, y.detach())


def scaled(x: Tensor, factor: float) -> Tensor:
    return _Scaled.apply(x, factor)


def stabilized(x: Tensor) -> Tensor:
    """x moved away from 0 so little that only 0 itself notices, so that it can be divided by."""
    kind = torch.finfo(x.dtype)
    tiny = max(min(1e-10, kind.eps), kind.tiny)
    return torch.where(x < 0, x - tiny, x + tiny)


def _activation(function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return identity(x, function(x, *args, **kwargs))


def _layer_norm(
    function: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """The standard deviation is a constant (section 3.3.3)."""
    dims = tuple(range(-len(normalized_shape), 0))
    centred = input - input.mean(dims, keepdim=True)
    y = centred * torch.rsqrt(centred.pow(2).mean(dims, keepdim=True) + eps).detach()
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _rms_norm(
    function: Callable[..., Tensor],
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    floor = torch.finfo(input.dtype).eps if eps is None else eps
    y = input * torch.rsqrt(input.pow(2).mean(dims, keepdim=True) + floor).detach()
    return y if weight is None else y * weight


def _constant(function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    return function(*args, **kwargs).detach()


def _product(function: Callable[..., Tensor], a: Any, b: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Half of the relevance to each factor, where both depend on the input (equation 13)."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.requires_grad and b.requires_grad:
        a, b = scaled(a, 0.5), scaled(b, 0.5)
    return function(a, b, *args, **kwargs)


def _gamma(
    function: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, gamma: float
) -> Tensor:
    """The gamma rule for inputs of both signs: what speaks for an output's sign counts (1 + gamma) times.

    R_i = sum_j z_ij (1 + gamma [sign z_ij = sign y_j]) / (the same summed over i, the bias included) R_j,
    z_ij = x_i w_ij (section 3.2.1 and appendix B.2 of the paper; Montavon et al. 2019).
    """
    y = function(x, weight, bias, *args).detach()
    plus, minus = x.clamp(min=0), x.clamp(max=0)
    up, down = gamma * weight.clamp(min=0), gamma * weight.clamp(max=0)

    def strengthened(by_plus: Tensor, by_minus: Tensor, offset: Tensor | None) -> Tensor:
        return function(plus, weight + by_plus, offset, *args) + function(minus, weight + by_minus, None, *args)

    offsets = (None, None) if bias is None else (bias + gamma * bias.clamp(min=0), bias + gamma * bias.clamp(max=0))
    modified = torch.where(y >= 0, strengthened(up, down, offsets[0]), strengthened(down, up, offsets[1]))
    return modified * (y / stabilized(modified)).detach()  # y itself, with the gradient of the modified layer


def _gamma_addmm(function: Callable[..., Tensor], bias: Tensor, x: Tensor, weight: Tensor, *, gamma: float) -> Tensor:
    """GPT-2's linear layer: the weight is (in, out)."""
    return _gamma(F.linear, x, weight.T, bias, gamma=gamma)


def _without_gamma(function: Callable[..., Tensor], *args: Any, gamma: float, **kwargs: Any) -> Tensor:
    raise ValueError(
        "`gamma` needs linear layers one by one, and this mixture of experts multiplies them in groups. "
        "Call `model.set_experts_implementation('eager')` first."
    )


_GROUPED = [getattr(home, name) for home, name in ((F, "grouped_mm"), (torch, "_grouped_mm")) if hasattr(home, name)]

# Which rule each operation gets. An operation without a row keeps its gradient.
RULES: Table = {
    **dict.fromkeys((F.gelu, F.silu, F.relu, F.elu, F.leaky_relu, F.mish, F.softplus, F.relu6), _activation),
    **dict.fromkeys((torch.relu, torch.tanh, torch.sigmoid, F.tanh, F.sigmoid), _activation),
    **dict.fromkeys((Tensor.relu, Tensor.tanh, Tensor.sigmoid), _activation),
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    **dict.fromkeys((torch.rsqrt, Tensor.rsqrt), _constant),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__), _product),
}
GAMMA_RULES: Table = {
    F.linear: _gamma,
    F.conv2d: _gamma,
    torch.addmm: _gamma_addmm,
    **dict.fromkeys(_GROUPED, _without_gamma),
}


@contextlib.contextmanager
def lrp_rules(model: nn.Module, variant: Variant = "attn_lrp", gamma: float | None = None) -> Iterator[Interception]:
    """Inside the block a backward pass through `model` propagates relevance.

    Attention in `attn_lrp`: a quarter of the gradient at query and key, half at value; the softmax as it is
    (section 3.3.1 and 3.3.2, in gradient form). In `cp_lrp` (Ali et al., ICML 2022) the attention weights are
    constants: query and key are detached, and all of the gradient goes to the value.

    Args:
        gamma: the gamma rule with this strength at every linear layer and convolution, instead of the epsilon rule.

    Raises:
        ValueError: when the model's attention is not on transformers' attention interface.
    """
    strengthened = {} if gamma is None else {f: partial(rule, gamma=gamma) for f, rule in GAMMA_RULES.items()}
    table: Table = {**RULES, **strengthened}

    def attention(attend: Any, module: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any):
        if variant == "cp_lrp":
            query, key = query.detach(), key.detach()
        else:
            query, key, value = scaled(query, 0.25), scaled(key, 0.25), scaled(value, 0.5)
        with mode.resting():
            return attend(module, query, key, value, *args, **kwargs)

    with (
        edit_attention(model, attention),
        intercepted(model, by_table(table), lambda module, x, y: identity(x, y)) as mode,
    ):
        yield mode
